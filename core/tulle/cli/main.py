"""`tulle`: finds the word, imports its module, and ends errors with one message and the right exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

import click

from tulle import __version__
from tulle.cli.words import Words

WORDS = {
    "completion": ("tulle.cli.completion:completion", "Print a completion script for a shell."),
    "config": ("tulle.cli.config:config", "Show, set or check the network config in the store."),
    "docker-opts": ("tulle.cli.dockeropts:docker_opts", "Write Docker's options for this node's subnet."),
    "doctor": ("tulle.cli.doctor:doctor", "What is wrong with this node, and what mends it."),
    "down": ("tulle.cli.down:down", "Take away everything that tulle made on this node."),
    "forwarder": ("tulle.cli.forwarder:forwarder", "Let a new forwarder take over from the running one."),
    "init": ("tulle.cli.init:init", "Write a network config into the store."),
    "lab": ("tulle.cli.lab:lab", "A whole cluster in namespaces on this machine."),
    "leases": ("tulle.cli.leases:leases", "Which node has which subnet."),
    "ping": ("tulle.cli.ping:ping_node", "Ping another node through the data path."),
    "plugins": ("tulle.cli.plugins:plugins", "What is installed, and what it provides."),
    "status": ("tulle.cli.status:status", "What this node does and what is wrong."),
    "trace": ("tulle.cli.trace:trace", "The way of a packet from here, and where it stops."),
}
"""Word to "module:command" and one line of help: listing them imports nothing."""

WRONG = 2
"""Exit status for configuration that is wrong; 1 for everything else that fails."""


class AllWords(Words):
    """Built-in words by the table above, then those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*WORDS, *self._of_plugins()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in WORDS:
            module, _, attribute = WORDS[cmd_name][0].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        return self._of_plugins().get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(word, text) for word, (_, text) in WORDS.items()]
        rows += [(word, one.get_short_help_str()) for word, one in self._of_plugins().items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))

    def _of_plugins(self) -> dict[str, click.Command]:
        from tulle.plugins import load_plugins

        found = [command for _, command in load_plugins().collect("tulle_commands")]
        return {command.name: command for command in found if command.name and command.name not in WORDS}


@click.command(cls=AllWords, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tulle")
def tulle() -> None:
    """tulle: a flat pod network across machines.

    tulled is the daemon; this command looks at it, at the store, and at labs.
    """


def main(argv: Sequence[str] | None = None) -> None:
    try:
        status = tulle.main(args=argv, prog_name="tulle", standalone_mode=False)
    except click.exceptions.Abort:
        _end("interrupted", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        _end(*_explained(error))
    sys.exit(status if isinstance(status, int) else 0)


CONFIGURATION = (("tulle.config.errors", "ConfigError"), ("tulle.plugins", "PluginError"))
FAILURES = (
    ("tulle.contracts.store", "StoreError"),
    ("tulle.node.client", "ApiError"),
    ("tulle.node.client", "NotRunning"),
    ("builtins", "OSError"),
)


def _explained(error: Exception) -> tuple[str, int]:
    """What to say and the exit status, for errors whose text is made for people. Others are bugs and are raised."""
    if _is_one_of(error, CONFIGURATION):
        return str(error), WRONG
    if _is_one_of(error, FAILURES):
        return str(error), 1
    raise error


def _is_one_of(error: Exception, types: Iterable[tuple[str, str]]) -> bool:
    """By module and name: one whose module nobody has imported was not raised, and importing it now would cost."""
    return any(
        module in sys.modules and isinstance(error, getattr(sys.modules[module], name))
        for module, name in types
    )


def _end(message: str, status: int) -> None:
    click.echo(f"tulle: {message}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
