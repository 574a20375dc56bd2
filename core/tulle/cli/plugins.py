"""`tulle plugins list`."""

from __future__ import annotations

import click

from tulle.cli.output import as_data, output_option, table
from tulle.plugins import SPEC_TYPES, load_plugins


@click.group()
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
            ", ".join(one.provides or one.kinds) or "-",
            one.origin,
            one.error or "ok",
        )
        for one in loaded.infos
    ]
    table(("NAME", "VERSION", "PROVIDES", "ORIGIN", "STATE"), rows)
