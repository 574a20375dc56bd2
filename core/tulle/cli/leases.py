"""`tulle leases`: which node has which subnet; reserve one, take one away. On the store alone, without a tulled."""

from __future__ import annotations

import sys
from ipaddress import ip_address

import click

from tulle.cli.output import as_data, duration, output_option, table
from tulle.cli.store import StoreAccess, store_options
from tulle.cli.words import Words
from tulle.config.core_options import SINGLE_MACHINE
from tulle.config.errors import ConfigError
from tulle.config.network import parse_network_config
from tulle.contracts.store import Store
from tulle.lease.offline import LeaseLine, read_leases
from tulle.lease.registered import read
from tulle.lease.reservation import Change, Refused, parse_subnet, release, reserve
from tulle.net.prefix import Address, Family

HEADERS = ("SUBNETS", "NODE", "PUBLIC", "BACKEND", "EXPIRES", "RENEWED BY")


class ListByDefault(Words):
    """Without a word it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and not {"-h", "--help"} & set(args)):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=ListByDefault)
def leases() -> None:
    """Which node has which subnet; without a word: list.

    It works on the store alone: the one that flags name (`tulle leases list --help`), else that of the tulled that runs
    here, else the store of this machine.
    """


@leases.command("list")
@output_option
@store_options
def list_leases(access: StoreAccess, output: str) -> None:
    """All leases and reservations, with their node, and for how long.

    A backend in parentheses is the network config's: the lease names none, as flannel's udp does not.
    """
    found, backend = access.run(lambda store: _listed(store, access.prefix))
    if as_data(found, output):
        return
    if not found:
        click.echo(f"no leases under {access.prefix}/subnets in {access.place}")
        return
    table(HEADERS, [_row(one, backend) for one in found])
    if SINGLE_MACHINE in access.because:
        click.echo(f"({access.because})")


async def _listed(store: Store, prefix: str) -> tuple[list[LeaseLine], str]:
    """The leases, and the backend of the network config; "" where that is not to be had."""
    found = await read_leases(store, prefix)
    config = await store.get(f"{prefix}/config")
    try:
        return found, parse_network_config(config.value).backend_type if config is not None else ""
    except ConfigError:
        return found, ""


def _row(line: LeaseLine, backend: str) -> tuple[str, ...]:
    expires = "never (reserved)" if line.reserved else f"in {duration(line.expires_s)}"
    if line.problem:
        return (line.key, line.node or "?", "?", f"unreadable: {line.problem}", expires, "?")
    return (
        ", ".join(line.subnets),
        line.node or "(flannel)",
        ", ".join(line.public) or "-",
        line.backend or (f"({backend})" if backend and line.public else "-"),
        expires,
        _renewer(line),
    )


def _renewer(line: LeaseLine) -> str:
    if not line.came and not line.alive:
        return "nobody: it has not come yet"
    if line.alive is None:
        return "its flanneld, if that runs"
    return "its tulled" if line.alive else "nobody: its tulled does not run"


@leases.command("reserve")
@click.argument("subnet")
@click.argument("node", required=False, default="")
@click.option(
    "--public-ip", multiple=True, help="Address of a flannel node that is to get it; once for each family."
)
@output_option
@store_options
def reserve_subnet(
    access: StoreAccess, subnet: str, node: str, public_ip: tuple[str, ...], output: str
) -> None:
    """Keep SUBNET for NODE, which may not exist yet, for ever.

    SUBNET is 10.5.52.0/24, or 10.5.52.0/24,fd00::/64 where the cluster has both families. A tulled takes it by its node
    name; a flanneld only by its address (--public-ip). A subnet that NODE has already no longer expires.
    """
    if not node and not public_ip:
        raise click.UsageError("say for whom: a NODE name, or --public-ip for a flannel node")
    if "/" in node or not node.isprintable():
        raise click.BadParameter(f"{node!r} cannot be a node's name: give a host name such as node-1")
    public = _addresses(public_ip)
    try:
        prefixes = parse_subnet(subnet)
    except ValueError as error:
        raise click.BadParameter(f"{error}; give one such as 10.5.52.0/24", param_hint="SUBNET") from error

    async def work(store: Store) -> Change:
        change = reserve(await read(store, access.prefix), prefixes, node, public)
        await change.carry_out(store)
        return change

    try:
        change = access.run(work)
    except Refused as error:
        raise click.ClickException(str(error)) from error
    if not as_data({"reserved": change.lines, "changed": bool(change.operations)}, output):
        for line in change.lines:
            click.echo(line)


def _addresses(texts: tuple[str, ...]) -> dict[Family, Address]:
    found: dict[Family, Address] = {}
    for text in texts:
        try:
            address = ip_address(text)
        except ValueError as error:
            raise click.BadParameter(
                f"{error}; give one such as 192.0.2.7", param_hint="--public-ip"
            ) from error
        if address.version in found:
            raise click.BadParameter(
                f"two IPv{address.version} addresses; give one", param_hint="--public-ip"
            )
        found[address.version] = address
    return found


@leases.command("release")
@click.argument("what", metavar="SUBNET|NODE")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also where the node runs.")
@output_option
@store_options
def release_lease(access: StoreAccess, what: str, yes: bool, force: bool, output: str) -> None:
    """Delete a lease or a reservation from the store, by its subnet or its node.

    For nodes that are gone: one that runs gives its subnet back by `tulle down --release`.
    """

    async def work(store: Store) -> Change:
        change = release(await read(store, access.prefix), what)
        if change.alive and not force:
            names = ", ".join(change.alive)
            raise Refused(
                f"{'; '.join(change.lines)}: the tulled of {names} runs and uses it. Run `tulle down --release` "
                "there, or give --force (a tulled that goes on running takes it again at once)"
            )
        return change

    try:
        change = access.run(work)
        if not yes:
            _confirm(change)
        access.run(change.carry_out)
    except Refused as error:
        raise click.ClickException(str(error)) from error
    if not as_data({"released": change.lines}, output):
        for line in change.lines:
            click.echo(f"{line}: released")


def _confirm(change: Change) -> None:
    """Raises Refused where nobody can be asked, Abort where the answer is no."""
    doubt = "".join(f"\nNobody can say whether the flannel node of {one} runs." for one in change.unknown)
    text = "; ".join(change.lines)
    if not sys.stdin.isatty():
        raise Refused(f"{text}: nothing was done, since nobody can be asked here: give --yes{doubt}")
    click.confirm(f"Release {text}?{doubt}\nPods with its addresses lose their way.", abort=True)
