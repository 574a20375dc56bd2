"""`tulle ping NODE`: echo through the data path, from this node's tunnel address to that node's."""

from __future__ import annotations

import click
import msgspec

from tulle.cli.output import as_data, output_option
from tulle.cli.store import StoreAccess, node_options
from tulle.contracts.backend import Family
from tulle.contracts.doctor import DoctorContext
from tulle.contracts.store import Store
from tulle.net.echo import OVERHEAD_BYTES
from tulle.net.prefix import Address
from tulle.probe.echo import MAX_BYTES, EchoSocket
from tulle.probe.mtu import longest
from tulle.probe.ping import MOST, Answer, Summary, ping, summary
from tulle.trace.target import Target, UnknownTarget, other_node, tunnel_address

WAIT_S = 1.0
MTU_TRIES = 2
"""For each size: one lost packet must not make the result smaller."""
MTU_WAIT_S = 0.5
LEAST_MTU: dict[Family, int] = {4: 68, 6: 1280}  # RFC 791 section 3.2, RFC 8200 section 5
SMALLEST_PAYLOAD = 8


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What `-o json` prints."""

    node: str
    address: str
    source: str
    summary: Summary | None = None
    answers: list[Answer] = []
    tunnel_mtu: int | None = None
    """Of the device here."""
    fits: int | None = None
    """The longest packet that came back, in bytes with its IP header; None where none did, or --mtu was not given."""


@click.command("ping")
@click.argument("node")
@click.option("-c", "--count", type=click.IntRange(1, MOST), default=5, show_default=True, help="Requests.")
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(0.01),
    default=1.0,
    show_default=True,
    help="Seconds between them.",
)
@click.option(
    "-s",
    "--size",
    type=click.IntRange(SMALLEST_PAYLOAD, MAX_BYTES - 48),
    default=56,
    show_default=True,
    help="Payload in bytes.",
)
@click.option("-4", "family", flag_value=4, type=int, help="IPv4, where the nodes have both.")
@click.option("-6", "family", flag_value=6, type=int, help="IPv6, where the nodes have both.")
@click.option("--mtu", is_flag=True, help="Find the longest packet that passes, instead.")
@output_option
@node_options
def ping_node(
    access: StoreAccess,
    node: str,
    count: int,
    interval: float,
    size: int,
    family: Family | None,
    mtu: bool,
    output: str,
) -> None:
    """Ping another NODE through the data path: from this node's tunnel address to that node's.

    Exit status 1 where nothing comes back.
    """
    try:
        target, source, link_mtu = access.run_without(
            lambda store, error: ends(access, store, error, node, family)
        )
    except UnknownTarget as error:
        raise click.BadParameter(str(error), param_hint="NODE") from error
    result = Result(node=node, address=str(target.address), source=str(source), tunnel_mtu=link_mtu)
    if mtu:
        result = searched(result, target.address.version)
    else:
        result = pinged(result, target.address.version, count, interval, size, output)
    if not as_data(result, output) and mtu:
        show_mtu(result)
    if result.fits is None and not (result.summary and result.summary.received):
        raise SystemExit(1)


async def ends(
    access: StoreAccess, store: Store | None, error: str, node: str, family: Family | None
) -> tuple[Target, Address, int | None]:
    """The other end, this one, and the MTU of the link between. Raises UnknownTarget."""
    from tulle.doctor.survey import survey
    from tulle.kernel.netlink import Netlink

    ctx = await survey(access.config, access.plugins, store, access.place, error)
    target = other_node(node, ctx, family)
    source = own_address(ctx, target)
    async with Netlink() as netlink:
        way = await netlink.way(target.address)
        links = {link.name: link.mtu for link in (await netlink.surroundings()).links}
    return target, source, links.get(way.link)


def own_address(ctx: DoctorContext, target: Target) -> Address:
    """Of the target's family. Raises UnknownTarget where this node has none."""
    for subnet in ctx.subnets:
        if subnet.version == target.address.version:
            return tunnel_address(subnet, bool(ctx.device))
    raise UnknownTarget(f"this node has no IPv{target.address.version} subnet to ping from; see tulle status")


def pinged(result: Result, family: Family, count: int, interval: float, size: int, output: str) -> Result:
    def said(answer: Answer) -> None:
        if output == "text":
            click.echo(line(answer, result.address))

    if output == "text":
        click.echo(f"{result.node}: from {result.source} to {result.address}, {size} bytes of payload")
    with EchoSocket(family, source=result.source) as opened:
        answers = ping(
            opened, result.address, count=count, interval_s=interval, wait_s=WAIT_S, size=size, said=said
        )
    found = summary(answers)
    if output == "text":
        click.echo(summary_line(found))
    return msgspec.structs.replace(result, summary=found, answers=answers)


def line(answer: Answer, address: str) -> str:
    if answer.rtt_ms is not None:
        return f"{address}: number {answer.sequence + 1}, {answer.rtt_ms:.2f} ms"
    return f"{address}: number {answer.sequence + 1}, {answer.problem or 'no answer'}"


def summary_line(found: Summary) -> str:
    text = f"{found.sent} sent, {found.received} answered, {found.loss_percent:.0f} % lost"
    if found.min_ms is None or found.avg_ms is None or found.max_ms is None:
        return f"{text}; see tulle trace, which says where they stop"
    return f"{text}; min {found.min_ms:.2f} ms, avg {found.avg_ms:.2f} ms, max {found.max_ms:.2f} ms"


def searched(result: Result, family: Family) -> Result:
    """Echoes that must not be cut, up to the MTU of the tunnel's device."""
    top = result.tunnel_mtu or MAX_BYTES
    with EchoSocket(family, source=result.source, dont_fragment=True) as opened:

        def passes(size: int) -> bool:
            return any(
                ping(
                    opened,
                    result.address,
                    count=1,
                    interval_s=0.0,
                    wait_s=MTU_WAIT_S,
                    size=max(SMALLEST_PAYLOAD, size - OVERHEAD_BYTES[family]),
                )[0].rtt_ms
                is not None
                for _ in range(MTU_TRIES)
            )

        return msgspec.structs.replace(result, fits=longest(LEAST_MTU[family], top, passes))


def show_mtu(result: Result) -> None:
    device = (
        f"the tunnel's MTU here is {result.tunnel_mtu}" if result.tunnel_mtu else "there is no tunnel here"
    )
    if result.fits is None:
        click.echo(
            f"{result.node}: not even small packets come back; {device}. See tulle trace {result.node}"
        )
    elif result.fits == result.tunnel_mtu:
        click.echo(
            f"{result.node}: {device}, and packets of {result.fits} bytes pass: all that pods can send fits"
        )
    else:
        click.echo(
            f"{result.node}: {device}, but only packets of up to {result.fits} bytes pass and come back: the way "
            f"between carries less. Run tulle doctor --check mtu on both nodes"
        )
