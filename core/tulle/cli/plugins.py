"""`tulle plugins list`."""

from __future__ import annotations

import click

from tulle.cli.output import as_data, output_option, table
from tulle.cli.words import Words
from tulle.plugins import SPEC_TYPES, PluginInfo, load_plugins

SHOWN_NAMES = 4
"""Of one kind, of one plugin; -o json names all."""


@click.group(cls=Words)
def plugins() -> None:
    """What is installed, and what it provides."""


@plugins.command("list")
@output_option
def list_plugins(output: str) -> None:
    """Name, version, kind, hooks and origin of every plugin, broken ones with the reason."""
    loaded = load_plugins()
    for hook in SPEC_TYPES:
        loaded.collect(hook)
    if as_data(loaded.infos, output):
        return
    rows = [
        (
            one.name,
            one.version or "-",
            _provided(one) or "-",
            ", ".join(one.hooks) or "-",
            one.origin,
            one.error or "ok",
        )
        for one in loaded.infos
    ]
    table(("NAME", "VERSION", "PROVIDES", "HOOKS", "ORIGIN", "STATE"), rows)


def _provided(info: PluginInfo) -> str:
    """By kind: "store etcd"; where there are many, their number: "16 doctor-checks"."""
    texts = []
    for kind in info.kinds:
        names = [one.partition(":")[2] for one in info.provides if one.startswith(f"{kind}:")]
        many = len(names) > SHOWN_NAMES
        texts.append(f"{len(names)} {kind}s" if many else f"{kind} {', '.join(names)}".strip())
    return "; ".join(texts)
