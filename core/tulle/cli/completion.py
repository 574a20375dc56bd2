"""`tulle completion bash|zsh|fish`: completion for tulle (click's own) and for tulled's flags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tulle.config.groups import all_options
from tulle.config.help import BUILTIN
from tulle.plugins import load_plugins

HOW = {
    "bash": "tulle completion bash > /etc/bash_completion.d/tulle",
    "zsh": "tulle completion zsh > /usr/share/zsh/vendor-completions/_tulle",
    "fish": "tulle completion fish > /usr/share/fish/vendor_completions.d/tulle.fish",
}


@click.command(epilog="Install it: " + "; ".join(HOW.values()))
@click.argument("shell", type=click.Choice(sorted(HOW)))
def completion(shell: str) -> None:
    """Print a completion script for a shell: source it, or install it."""
    from tulle.cli.main import tulle

    source = get_completion_class(shell)
    if source is None:
        raise click.ClickException(f"click knows no completion for {shell}")
    click.echo(source(tulle, {}, "tulle", "_TULLE_COMPLETE").source().strip())
    click.echo(DAEMON[shell](tulled_flags()))


def tulled_flags() -> list[tuple[str, str]]:
    """Name with dashes and help of every flag of tulled, those of every plugin too."""
    options = (*all_options(load_plugins().option_groups()), *BUILTIN)
    return [(f"--{one.name}", one.help) for one in sorted(options, key=lambda one: one.name)]


def _bash(flags: list[tuple[str, str]]) -> str:
    words = " ".join(name for name, _ in flags)
    body = f'COMPREPLY=($(compgen -f -W "{words}" -- "${{COMP_WORDS[COMP_CWORD]}}"));'
    return f"_tulled() {{ {body} }}\ncomplete -F _tulled tulled"


def _zsh(flags: list[tuple[str, str]]) -> str:
    lines = [f"  '{name}[{_quoted(text)}]:value:_files' \\" for name, text in flags]
    return "\n".join(["_tulled() { _arguments \\", *lines, "}", "compdef _tulled tulled"])


def _fish(flags: list[tuple[str, str]]) -> str:
    return "\n".join(f"complete -c tulled -l {name[2:]} -r -d '{_quoted(text)}'" for name, text in flags)


def _quoted(text: str) -> str:
    """Fit for single quotes, and without what zsh takes for the end of a description."""
    return text.translate({ord("'"): "’", ord("["): "(", ord("]"): ")", ord(":"): ","})


DAEMON = {"bash": _bash, "zsh": _zsh, "fish": _fish}
