"""The UDP port of the backend: the forwarder has it, and nobody else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.doctor import reading
from tulle.kernel.holders import Holder, port_inodes, udp_port_holders
from tulle.node.rundir import RunDir


async def check(ctx: DoctorContext) -> list[Finding]:
    run_dir = RunDir(ctx.run_dir)
    ours = {*run_dir.forwarders(), *filter(None, [run_dir.holder()])}
    found: list[Finding] = []
    for port in ctx.ports or (ctx.port,):
        holders = udp_port_holders(port)
        device = "" if holders else await vxlan_device(ctx, port)
        found += judge(port, holders, ours, bound(port), ctx.status is not None, device)
    return found


async def vxlan_device(ctx: DoctorContext, port: int) -> str:
    """That of our devices by which the kernel itself has the port."""
    from tulle.kernel.netlink import Netlink

    async with Netlink() as netlink:
        for name in ctx.devices:
            facts = await netlink.link(name)
            if facts is not None and facts.vxlan is not None and facts.vxlan.port == port:
                return name
    return ""


def bound(port: int) -> bool:
    """Whether anything in this network namespace has the port, a kernel device too."""
    tables = (reading.text(Path("/proc/thread-self/net") / name) or "" for name in ("udp", "udp6"))
    return any(port_inodes(table, port) for table in tables)


def judge(
    port: int,
    holders: Sequence[Holder],
    ours: Collection[int],
    is_bound: bool,
    running_here: bool,
    device: str = "",
) -> list[Finding]:
    """Pure. `ours`: pids of tulled and forwarder; `is_bound`: somebody has the port, seen or not; `device`: our own, by
    which the kernel has it."""
    subject = f"port {port}/udp"
    if not port:
        return [
            Finding(
                severity="skipped", subject="port", what="the backend has no UDP port, or it is not known"
            )
        ]
    why = "the backend cannot listen: no packet of another node arrives"
    strangers = [one for one in holders if one.pid not in ours]
    if strangers:
        names, pids = " and ".join(map(str, strangers)), " ".join(str(one.pid) for one in strangers)
        mend = f"kill {pids}  # or set another Backend.Port for the whole cluster: tulle config set"
        return [Finding(severity="error", subject=subject, what=f"is held by {names}", why=why, mend=mend)]
    if holders:
        return [Finding(severity="ok", subject=subject, what=f"is held by {' and '.join(map(str, holders))}")]
    if device:
        return [Finding(severity="ok", subject=subject, what=f"is held by the kernel, for {device}")]
    if is_bound:
        return [
            Finding(
                severity="error",
                subject=subject,
                what="is held by no process that can be seen: by the kernel, or a program in a container",
                why=why,
                mend="ip -d link show type vxlan  # and type wireguard; remove the one with this port",
            )
        ]
    if running_here:
        what = "nobody listens, though tulled runs"
        return [
            Finding(severity="error", subject=subject, what=what, why=why, mend="tulle status  # it says why")
        ]
    return [Finding(severity="ok", subject=subject, what="is free")]
