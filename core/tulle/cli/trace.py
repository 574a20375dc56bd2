"""`tulle trace DESTINATION`: each step of the way with the rule that decides it, then a real probe along it."""

from __future__ import annotations

import click
import msgspec

from tulle.cli.output import as_data, output_option, table
from tulle.cli.store import StoreAccess, node_options
from tulle.contracts.backend import Family
from tulle.contracts.store import Store
from tulle.trace.target import UnknownTarget, resolve
from tulle.trace.verdict import Verdict, judge
from tulle.trace.way import Seen, Step, steps


class Trace(msgspec.Struct, frozen=True):
    """What `-o json` prints."""

    destination: str
    address: str
    steps: list[Step]
    probe: Verdict | None
    """None: it was not sent, since a step stops the packet or --no-probe was given."""


@click.command()
@click.argument("destination")
@click.option("-4", "family", flag_value=4, type=int, help="IPv4, where a node or pod has both.")
@click.option("-6", "family", flag_value=6, type=int, help="IPv6, where a node or pod has both.")
@click.option("--no-probe", is_flag=True, help="Only say which way a packet would take; send nothing.")
@output_option
@node_options
def trace(access: StoreAccess, destination: str, family: Family | None, no_probe: bool, output: str) -> None:
    """The way of a packet from here to DESTINATION, and where it stops: a pod's address, a NODE, or NODE/POD.

    Exit status 1 where it does not arrive.
    """
    try:
        seen = access.run_without(lambda store, error: looked(access, store, error, destination, family))
    except UnknownTarget as error:
        raise click.BadParameter(str(error), param_hint="DESTINATION") from error
    way = steps(seen)
    verdict = None
    if not way[-1].stops and not no_probe:
        from tulle.trace.probe import probe

        verdict = judge(probe(seen))
    if not as_data(Trace(destination, str(seen.target.address), way, verdict), output):
        show(way, verdict)
    if way[-1].stops or (verdict is not None and not verdict.arrived):
        raise SystemExit(1)


async def looked(
    access: StoreAccess, store: Store | None, error: str, destination: str, family: Family | None
) -> Seen:
    """Raises UnknownTarget."""
    from tulle.doctor.survey import survey
    from tulle.trace.look import look, pod_records

    ctx = await survey(access.config, access.plugins, store, access.place, error)
    pods = await pod_records(ctx) if "/" in destination else ()
    return await look(ctx, resolve(destination, ctx, family, pods))


def show(way: list[Step], verdict: Verdict | None) -> None:
    table(
        ("", "STEP", "WHAT", "RULE"),
        [
            ("ok" if one.ok else "part" if one.part else "stop", one.name, one.what, one.rule or "-")
            for one in way
        ],
    )
    if verdict is None:
        return
    if verdict.arrived:
        click.echo(f"probe: arrived, {verdict.text}")
    else:
        click.echo(f"probe: stopped at {verdict.stopped_at}: {verdict.text}")
