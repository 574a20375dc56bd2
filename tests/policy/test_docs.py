"""What docs/ and the plugins' READMEs show is there: commands with their flags, links, and the files that
docs/architecture.md names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tulle.cli.main import tulle

BLOCK = re.compile(r"^    (tulle [a-z].*)$", re.MULTILINE)
SPAN = re.compile(r"`(tulle [a-z][^`]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`([a-z_/]+\.py)`")
ELLIPSIS = {"…", "..."}
"""Any word in their place."""
ROOMS = ("", "core/tulle", "plugins")
"""Where files that docs/architecture.md names by less than their whole path may lie."""


def pages(checkout: Path) -> list[Path]:
    return [*sorted((checkout / "docs").glob("*.md")), *sorted(checkout.glob("plugins/*/README.md"))]


def commands(text: str) -> Iterator[list[str]]:
    """The words behind `tulle` of each command that is shown; "\\" joins lines, "#" ends them."""
    joined = text.replace("\\\n", " ")
    for shown in [*BLOCK.findall(joined), *SPAN.findall(" ".join(joined.split()))]:
        yield shlex.split(shown.partition(" # ")[0].partition(" > ")[0].partition(" | ")[0])[1:]


def fault(words: list[str]) -> str:
    """Why that is no command of ours; "" where it is."""
    command: click.Command = tulle
    context = click.Context(tulle, info_name="tulle")
    words = list(words)
    while isinstance(command, click.Group) and words and words[0] not in ELLIPSIS:
        name = words.pop(0).rstrip(",")
        found = command.get_command(context, name)
        if found is None:
            return f"there is no {name}"
        command, context = found, click.Context(found, parent=context, info_name=name)
    if "--" in words:
        words = words[: words.index("--")]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {
        "-h",
        "--help",
    }
    unknown = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"} - known
    return f"it has no {', '.join(sorted(unknown))}" if unknown else ""


def test_every_command_that_is_shown_is_one(checkout: Path) -> None:
    shown = [(page, words) for page in pages(checkout) for words in commands(page.read_text())]
    assert len(shown) > 50
    wrong = [
        f"{page.relative_to(checkout)}: tulle {' '.join(words)}: {fault(words)}"
        for page, words in shown
        if fault(words)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fly n2", "there is no fly"),
        ("leases eat", "there is no eat"),
        ("ping --hard n2", "it has no --hard"),
    ],
)
def test_a_command_that_is_none_is_found(words: str, said: str) -> None:
    assert fault(words.split()) == said


def test_every_link_leads_somewhere(checkout: Path) -> None:
    links = [(page, link) for page in pages(checkout) for link in LINK.findall(page.read_text())]
    assert len(links) > 20
    lost = [
        f"{page.relative_to(checkout)}: {link}"
        for page, link in links
        if "://" not in link and not (page.parent / link.partition("#")[0]).exists()
    ]
    assert lost == []


def test_the_architecture_names_files_that_are_there(checkout: Path) -> None:
    """By path below one of the rooms; a bare name lies in a folder that its section names."""
    missing, count = [], 0
    for section in (checkout / "docs/architecture.md").read_text().split("\n##"):
        names = FILE.findall(section)
        count += len(names)
        folders = [
            checkout / room / folder
            for room in ROOMS
            for folder in ("", *(Path(name).parent for name in names))
        ]
        missing += [name for name in names if not any((folder / name).is_file() for folder in folders)]
    assert count > 40
    assert missing == []
