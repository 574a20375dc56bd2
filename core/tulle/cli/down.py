"""`tulle down`: with tulled running, stopped or killed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from tulle.cli.output import as_data, output_option
from tulle.cli.store import NoStore, StoreAccess, node_options
from tulle.node.answers import DownAnswer
from tulle.node.client import ApiError, Client, NotRunning
from tulle.node.down import remove_all
from tulle.node.rundir import Record, RunDir
from tulle.plugins import load_plugins
from tulle.worker.processes import kill, wait_for_end

ANSWER_S = 3.0
"""A tulled that does not answer a status within this is ended."""
DOWN_S = 30.0


@click.command()
@click.option("--release", is_flag=True, help="Give this node's subnet back to the cluster too.")
@output_option
@node_options
def down(access: StoreAccess, release: bool, output: str) -> None:
    """Take away links, routes, processes, run directory and subnet.env; keep lease and state directory."""
    run_dir = RunDir(access.config.run_dir)
    record = run_dir.record()
    before = asyncio.run(ours())
    lines, released = _ask(run_dir, release)
    if lines is None:
        _check_rights()
        lines = _end_tulled(run_dir) + asyncio.run(remove_all(run_dir, load_plugins()))
    lines = with_vanished(lines, before, asyncio.run(ours()))
    if release and not released:
        lines.append(_release(access, record))
    if as_data(DownAnswer(removed=lines), output):
        return
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo(f"there was nothing of tulle's here (run directory {run_dir.path})")


def _check_rights() -> None:
    if os.geteuid() != 0:
        raise click.ClickException("only root may take away links, routes and processes of tulle: use sudo")


async def ours() -> list[str]:
    """Links and routes with our marks: "link tulle0"."""
    from tulle.kernel.netlink import Netlink
    from tulle.kernel.state import RTPROT_TULLE

    async with Netlink() as netlink:
        links = [f"link {one.name}" for one in (await netlink.surroundings()).links if one.ours]
        routes = [f"route {one.route.text}" for one in await netlink.routes() if one.protocol == RTPROT_TULLE]
    return [*routes, *links]


def with_vanished(lines: list[str], before: list[str], after: list[str]) -> list[str]:
    """With a line for what is gone and none names: a TUN, and the routes over it, go when the last process that holds
    its descriptor ends. Pure."""
    gone = [f"{one}: removed" for one in before if one not in after]
    return [*(one for one in gone if one not in lines), *lines]


def _ask(run_dir: RunDir, release: bool) -> tuple[list[str] | None, bool]:
    """What a running tulled removed and whether it released; None where none answers."""
    pid = run_dir.holder()
    try:
        Client(run_dir.path, timeout=ANSWER_S).get("status")
        answer = Client(run_dir.path, timeout=DOWN_S).post("down", {"release": release})
    except NotRunning:
        return None, False
    except ApiError as error:
        raise click.ClickException(str(error)) from error
    if pid is not None:
        wait_for_end(pid, DOWN_S)
    return [*answer["removed"], f"tulled {pid}: ended"], release


def _end_tulled(run_dir: RunDir) -> list[str]:
    pid = run_dir.holder()
    if pid is None or not kill(pid, "tulle"):
        return []
    wait_for_end(pid, ANSWER_S)
    return [f"tulled {pid}: did not answer and was ended"]


def _which_store(access: StoreAccess) -> str:
    return (
        f"it is not known which store holds it, since no record of the last tulled is left in {access.config.run_dir} "
        "(an earlier `tulle down` takes it away), and there is no embedded store here. Name the store as tulled was "
        "told it: `tulle down --release --etcd-endpoints=...`, or --store with that store's flags"
    )


def _release(access: StoreAccess, record: Record | None) -> str:
    """Without a tulled: by the record of the last one, or by --node-name and the id in the state directory."""
    from tulle.lease.offline import release_node
    from tulle.node.identity import id_file, node_id

    node = record.node if record is not None and not access.node_given else access.config.node_name
    if elsewhere := access.elsewhere():
        return f"lease of {node}: not released, since no tulled runs here that could: {elsewhere}"
    state_dir = Path(record.state_dir) if record is not None else access.config.state_dir
    advice = f"`tulle leases` shows what there is, `tulle leases release {node}` takes it from any node"
    proof = id_file(state_dir)
    if not proof.exists():
        return f"lease of {node}: not released, since {proof}, which proves it ours, is not there; {advice}"
    own_id = node_id(state_dir)
    try:
        released = access.run(lambda store: release_node(store, access.prefix, node, own_id))
    except NoStore as error:
        if access.guessed:
            return f"lease of {node}: not released: {_which_store(access)}"
        return f"lease of {node}: there was none: {error}"
    if released:
        return f"lease of {node}: released"
    return f"lease of {node}: there was none of this machine in {access.place}; {advice}"
