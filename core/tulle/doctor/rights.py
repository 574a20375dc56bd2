"""The capabilities of tulled, or of this command where no tulled runs (capabilities(7))."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.doctor import reading
from tulle.node.rundir import RunDir

# linux/capability.h
NEEDED: Mapping[int, tuple[str, str]] = {
    12: ("CAP_NET_ADMIN", "it makes links, addresses and routes"),
    13: ("CAP_NET_RAW", "it pings"),
}
NICE: Mapping[int, tuple[str, str]] = {
    6: ("CAP_SETGID", "the forwarder keeps tulled's group"),
    7: ("CAP_SETUID", "the forwarder keeps tulled's user"),
    8: ("CAP_SETPCAP", "the forwarder cannot shut its way back to rights"),
}
NET_BIND_SERVICE = 10
PRIVILEGED_PORTS = 1024
"""Ports below need that capability (ip(7))."""


async def check(ctx: DoctorContext) -> list[Finding]:
    pid = RunDir(ctx.run_dir).holder()
    status = reading.text(Path(f"/proc/{pid or 'self'}/status")) or ""
    return judge(
        effective(status), f"tulled (pid {pid})" if pid else "this command", min(ctx.ports, default=ctx.port)
    )


def effective(status: str) -> int | None:
    """The mask in the text of /proc/PID/status; None where it is not there."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value.strip(), 16)
    return None


def judge(mask: int | None, who: str, port: int) -> list[Finding]:
    """Pure."""
    if mask is None:
        return [Finding(severity="skipped", subject=who, what="its capabilities cannot be read")]
    needed = dict(NEEDED)
    if 0 < port < PRIVILEGED_PORTS:
        needed[NET_BIND_SERVICE] = ("CAP_NET_BIND_SERVICE", f"the backend listens on port {port}")
    mend = (
        "systemctl edit tulled   (AmbientCapabilities= and CapabilityBoundingSet= must name it), or start it as root"
        if who.startswith("tulled")
        else "sudo tulle doctor"
    )
    found = [
        Finding(severity="error", subject=who, what=f"lacks {name}", why=f"without it: {why}", mend=mend)
        for number, (name, why) in needed.items()
        if not mask >> number & 1
    ] + [
        Finding(severity="warning", subject=who, what=f"lacks {name}", why=why, mend=mend)
        for number, (name, why) in NICE.items()
        if not mask >> number & 1
    ]
    return found or [Finding(severity="ok", subject=who, what="has the capabilities that tulled uses")]
