"""`tulle leases`: on the store alone, whether or not a tulled runs."""

from __future__ import annotations

import click

from tulle.cli.output import as_json, duration, output_option, table
from tulle.cli.store import StoreAccess, store_options
from tulle.lease.offline import LeaseLine, read_leases


@click.command()
@output_option
@store_options
def leases(access: StoreAccess, output: str) -> None:
    """Which node has which subnet, and for how long."""
    found = access.run(lambda store: read_leases(store, access.prefix))
    if output == "json":
        as_json(found)
        return
    if not found:
        click.echo(f"no leases under {access.prefix}/subnets in {access.config.store} ({access.because})")
        return
    table(("SUBNETS", "NODE", "PUBLIC", "BACKEND", "EXPIRES"), [_row(one) for one in found])
    if access.because.startswith("single"):
        click.echo(f"({access.because}: {access.config.store_settings})")


def _row(line: LeaseLine) -> tuple[str, ...]:
    expires = "never (reserved)" if line.reserved else f"in {duration(line.expires_s)}"
    if line.problem:
        return (line.key, line.node or "?", "?", f"unreadable: {line.problem}", expires)
    return (
        ", ".join(line.subnets),
        line.node or "(flannel)",
        ", ".join(line.public),
        line.backend or "-",
        expires,
    )
