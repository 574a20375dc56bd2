"""Taking away everything that is tulle's on this node, with or without a running tulled. Leases and the state directory
stay, so that the node comes back with its subnet.

What is ours is known by the record in the run directory and by marks in the kernel; where the record is gone the marks
are enough for all but subnet.env.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from tulle.contracts.specs import BackendSpec, ComponentSpec, load
from tulle.forward import messages
from tulle.kernel import sysctl
from tulle.kernel.netlink import Netlink
from tulle.node.rundir import Record, RunDir
from tulle.plugins import Plugins
from tulle.worker import messages as worker
from tulle.worker.processes import kill, wait_for_end
from tulle.worker.supervise import WorkerGone, connect

STOP_S = 2.0


async def remove_all(run_dir: RunDir, plugins: Plugins) -> list[str]:
    """Returns a line for each thing that was removed. Call it when no tulled runs on this directory, or from that
    tulled itself when it has stopped everything else."""
    record = run_dir.record()
    lines = await stop_forwarders(run_dir)
    lines += await remove_leftovers(plugins)
    async with Netlink() as netlink:
        lines += await netlink.remove_ours()
    if record is not None:
        lines += sysctl.restore(record.sysctls)
        lines += remove_subnet_file(record)
    return lines + run_dir.clear()


async def remove_leftovers(plugins: Plugins) -> list[str]:
    """Of components and backends. One that cannot be taken away is said, and the rest goes."""
    lines: list[str] = []
    specs: list[ComponentSpec | BackendSpec] = [*plugins.specs("tulle_components", ComponentSpec)]
    for spec in [*specs, *plugins.specs("tulle_backends", BackendSpec)]:
        if spec.leftovers:
            try:
                lines += await load(spec.leftovers)()
            except Exception as error:
                lines.append(f"{spec.name}: what it left cannot be removed ({type(error).__name__}: {error})")
    return lines


async def stop_forwarders(run_dir: RunDir, needed: Collection[str] = ()) -> list[str]:
    """Ask the forwarders to end, but those of the planes that are `needed`, and end those that do not answer (an
    emptied run directory has no socket)."""
    lines = []
    for pid, plane in run_dir.forwarders().items():
        if plane in needed:
            continue
        try:
            session = await connect(run_dir.forwarder(plane).socket, messages.decode, STOP_S)
            if session.hello.pid == pid:
                session.send(worker.Stop())
                await asyncio.to_thread(wait_for_end, pid, STOP_S)
            session.close()
        except WorkerGone:
            pass
        kill(pid, str(run_dir.path))
        lines.append(f"forwarder {pid}: stopped")
    return lines


def remove_subnet_file(record: Record) -> list[str]:
    """Only where it says what we wrote: flannel, or another tulled, may have put its own there."""
    path = Path(record.subnet_file)
    try:
        if not record.subnet_file or path.read_text() != record.subnet_file_text:
            return []
        path.unlink()
    except OSError:
        return []
    return [f"{path}: removed"]
