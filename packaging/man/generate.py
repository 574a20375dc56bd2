"""Writes the manual pages: tulle(1) with a page for each word, tulled(8), tulle-wg(8). They come from the commands
themselves and so cannot say anything else.

    python packaging/man/generate.py DIRECTORY
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click

from tulle import __version__
from tulle.cli.main import tulle
from tulle.config.core_options import CONFIG_FILE
from tulle.config.groups import CORE
from tulle.config.help import BUILTIN, explained, title
from tulle.plugins import load_plugins
from tulle_wireguard import standalone


def escaped(text: str) -> str:
    """For roff: a backslash and a leading dot or quote mean something there (groff(7))."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in text.splitlines())


def page(name: str, section: int, summary: str, parts: dict[str, list[str]]) -> str:
    lines = [f'.TH "{escaped(name.upper())}" {section} "" "tulle {__version__}" "tulle"']
    lines += [".SH NAME", f"{escaped(name)} \\- {escaped(summary.rstrip('.'))}"]
    for heading, content in parts.items():
        if content:
            lines += [f'.SH "{heading}"', *content]
    return "\n".join(lines) + "\n"


def item(term: str, text: str) -> list[str]:
    return [".TP", f".B {escaped(term)}", escaped(text) or "\\&"]


def command_pages(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """(file name, text) of a command and all below it."""
    context = click.Context(command, info_name=name.replace("-", " "))
    options, words = [], []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:  # an argument has no help of its own: the description names it
            options += item(*record)
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            found = command.get_command(context, word)
            if found is not None:
                words += item(f"{name}-{word}(1)", found.get_short_help_str(200))
                yield from command_pages(found, f"{name}-{word}")
    usage = escaped(" ".join(command.collect_usage_pieces(context)))
    text = escaped(cleandoc(command.help or "").replace("\n\n", "\n.PP\n")).replace("\\&.PP", ".PP")
    yield (
        f"{name}.1",
        page(
            name,
            1,
            command.get_short_help_str(200),
            {
                "SYNOPSIS": [f".B {escaped(name.replace('-', ' '))}", usage],
                "DESCRIPTION": text.splitlines(),
                "OPTIONS": options,
                "WORDS": words,
                "EXIT STATUS": [
                    *item("0", "it was done, and nothing is wrong"),
                    *item("1", "it could not be done, or what was looked at is wrong"),
                    *item("2", "the words or the configuration are wrong; nothing was changed"),
                ],
                "SEE ALSO": ["tulle(1), tulled(8)"],
            },
        ),
    )


def tulled_page() -> str:
    return page(
        "tulled",
        8,
        "joins this node's pods to the cluster's network",
        {
            "SYNOPSIS": [".B tulled", "[flags]"],
            "DESCRIPTION": [
                "Takes a subnet as a lease in the store, keeps it, and has the packets of this node's pods carried to",
                "the other nodes by tulle\\-forwarder, which goes on while tulled is restarted.",
                "Stays in the foreground.",
            ],
            "OPTIONS": flags(),
            "ENVIRONMENT": [
                "Each flag is read from TULLED_NAME where the command line does not give it, flannel's flags also from",
                "FLANNELD_NAME: \\-\\-node\\-name from TULLED_NODE_NAME.",
            ],
            "FILES": item(
                CONFIG_FILE,
                "flags' names as keys, in TOML; what neither the command line nor the environment gives",
            ),
            "EXIT STATUS": [
                *item("0", "after SIGTERM or tulle down"),
                *item("1", "the node cannot go on"),
                *item("2", "the configuration is wrong; nothing was changed"),
            ],
            "SEE ALSO": ["tulle(1)"],
        },
    )


def tulle_wg_page() -> str:
    parser = standalone.parser()
    options: list[str] = []
    for action in parser._actions:  # argparse offers them nowhere else
        term = ", ".join(action.option_strings) or str(action.metavar)
        options += item(term, action.help or "")
    return page(
        "tulle-wg",
        8,
        "a WireGuard interface in user space",
        {
            "SYNOPSIS": [".B tulle\\-wg", "[\\-f] NAME"],
            "DESCRIPTION": [
                "Makes the interface NAME, to be set by wg(8) and wg\\-quick(8); no store, no cluster. The packets are",
                "sealed and opened by tulle\\-forwarder, a process without rights.",
                "Addresses, routes and whether the interface is up are its caller's.",
                ".PP",
                "It ends when its socket is removed, when the interface is deleted (ip link delete NAME), and on",
                "SIGTERM, and leaves nothing behind.",
            ],
            "OPTIONS": options,
            "ENVIRONMENT": [
                *item(
                    "LOG_LEVEL",
                    f"{', '.join(standalone.LEVELS)}; error where it is not set. A process in the "
                    "background writes only where it is set",
                ),
                *item(
                    "WG_QUICK_USERSPACE_IMPLEMENTATION", "of wg-quick(8): tulle-wg has it use this program"
                ),
            ],
            "FILES": [
                *item("/var/run/wireguard/NAME.sock", "what wg(8) speaks to"),
                *item(f"{standalone.RUN_DIRECTORY}/NAME", "its lock and its forwarder's socket"),
            ],
            "EXIT STATUS": [
                *item("0", "it was told to end, or runs in the background"),
                *item("1", "it cannot go on"),
                *item("2", "an argument is wrong"),
            ],
            "SEE ALSO": ["wg(8), wg\\-quick(8), tulled(8)"],
        },
    )


def flags() -> list[str]:
    """Of tulled, by whose they are, in the order of `tulled --help`."""
    found: list[str] = []
    for group in load_plugins().option_groups():
        options = (*group.options, *BUILTIN) if group.name == CORE else group.options
        if options:
            found.append(f'.SS "{escaped(title(group))}"')
        for one in sorted(options, key=lambda one: one.name):
            found += item(f"--{one.name}", explained(one))
    return found


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY")
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    daemons = (("tulled.8", tulled_page()), ("tulle-wg.8", tulle_wg_page()))
    for name, text in (*command_pages(tulle, "tulle"), *daemons):
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
