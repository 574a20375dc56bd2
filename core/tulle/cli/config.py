"""`tulle config show|set|check`: the network config in the store."""

from __future__ import annotations

import json
import sys
from typing import IO

import click

from tulle.cli.init import Written, write_config
from tulle.cli.output import as_data, output_option
from tulle.cli.store import StoreAccess, store_options
from tulle.cli.words import Words
from tulle.config.errors import ConfigError
from tulle.config.network import render_network_config
from tulle.node.network import Network, check_network
from tulle.plugins import load_plugins


@click.group(cls=Words)
def config() -> None:
    """Show, set or check the network config in the store."""


@config.command()
@output_option
@store_options
def show(access: StoreAccess, output: str) -> None:
    """Print the network config as it stands in the store (it is JSON)."""
    text = stored(access)
    if output == "text":
        click.echo(text.rstrip())
        return
    try:
        as_data(json.loads(text), output)
    except ValueError:
        raise click.ClickException("it is not JSON: `tulle config check` says what is wrong") from None


@config.command("set")
@click.argument("file", type=click.File("rb"))
@output_option
@store_options
def set_(access: StoreAccess, file: IO[bytes], output: str) -> None:
    """Check the JSON in FILE ("-": standard input) and write it. Running nodes take it at their next start."""
    data = file.read()
    checked = check_network(data, access.plugins)
    _warn(checked)
    key = f"{access.prefix}/config"
    access.run(lambda store: write_config(store, key, data.decode(), True), makes=True)
    shown = json.loads(render_network_config(checked.config))
    if as_data(Written(key, access.config.store, True, shown), output):
        return
    click.echo(f"written: {key} in {access.place}")
    click.echo("next: restart tulled on the nodes that run already; their leases stay where they still fit")


@config.command()
@click.argument("file", type=click.File("rb"), required=False)
@output_option
@store_options
def check(access: StoreAccess, file: IO[bytes] | None, output: str) -> None:
    """Check the JSON in FILE, or what is in the store, as tulled would; exit status 2 where it is wrong."""
    try:
        checked = check_network(file.read() if file else stored(access), load_plugins())
    except ConfigError as error:
        if as_data({"ok": False, "problems": error.problems}, output):
            sys.exit(2)
        raise
    networks = [str(one) for one in checked.config.networks]
    if as_data({"ok": True, "warnings": checked.warnings, "networks": networks}, output):
        return
    _warn(checked)
    click.echo("ok. Written out with the defaults that matter:")
    click.echo(render_network_config(checked.config).rstrip())


def stored(access: StoreAccess) -> str:
    key = f"{access.prefix}/config"
    found = access.run(lambda store: store.get(key))
    if found is None:
        raise click.ClickException(f"there is no {key} in {access.place}; write one with `tulle init`")
    return found.value.decode(errors="replace")


def _warn(checked: Network) -> None:
    for warning in checked.warnings:
        click.echo(f"warning: {warning}", err=True)
