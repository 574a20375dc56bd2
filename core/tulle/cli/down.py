"""`tulle down`: with tulled running, stopped or killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from tulle.cli.store import StoreAccess, store_options
from tulle.node.client import ApiError, Client, NotRunning
from tulle.node.down import remove_all
from tulle.node.rundir import Record, RunDir
from tulle.worker.processes import kill, wait_for_end

ANSWER_S = 3.0
"""A tulled that does not answer a status within this is ended."""
DOWN_S = 30.0


@click.command()
@click.option("--release", is_flag=True, help="Give this node's subnet back to the cluster too.")
@store_options
def down(access: StoreAccess, release: bool) -> None:
    """Take away links, routes, processes, run directory and subnet.env; keep lease and state directory."""
    run_dir = RunDir(access.config.run_dir)
    record = run_dir.record()
    lines, released = _ask(run_dir, release)
    if lines is None:
        lines = _end_tulled(run_dir) + asyncio.run(remove_all(run_dir))
    if release and not released:
        lines.append(_release(access, record))
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo(f"there was nothing of tulle's here (run directory {run_dir.path})")


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


def _release(access: StoreAccess, record: Record | None) -> str:
    """Without a tulled: by the record of the last one, or by the id in the state directory."""
    from tulle.lease.offline import release_node
    from tulle.node.identity import node_id

    node = record.node if record is not None else access.config.node_name
    state_dir = Path(record.state_dir) if record is not None else access.config.state_dir
    if record is not None and access.config.store_default:
        access = msgspec.structs.replace(
            access,
            config=msgspec.structs.replace(
                access.config,
                store=record.store,
                store_settings=record.store_settings,
                prefix=record.store_prefix,
            ),
        )
    own_id = node_id(state_dir)
    released = access.run(lambda store: release_node(store, access.prefix, node, own_id))
    return f"lease of {node}: {'released' if released else 'there was none'}"
