"""Another overlay network on this node: its daemon by name, its interfaces by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.doctor import reading

DAEMONS = {
    "flanneld": "flannel",
    "calico-node": "calico",
    "calico-felix": "calico",
    "cilium-agent": "cilium",
    "weaver": "weave",
    "kube-router": "kube-router",
    "antrea-agent": "antrea",
    "nebula": "nebula",
}
LINKS = {
    "flannel.": "flannel",
    "flannel-": "flannel",
    "flannel0": "flannel",
    "vxlan.calico": "calico",
    "cilium_": "cilium",
    "antrea-tun": "antrea",
}
"""Beginnings of names."""
CONFLICTING = ("flannel",)
"""What shares files, ports and store keys with tulle: it cannot run on the same node."""


async def check(ctx: DoctorContext) -> list[Finding]:
    from tulle.kernel.netlink import Netlink

    async with Netlink() as netlink:
        seen = await netlink.surroundings()
    daemons = {
        pid: words[0].rpartition("/")[2]
        for pid, words in reading.own_processes().items()
        if words and words[0]
    }
    return judge(daemons, [one.name for one in seen.links if one.name not in (ctx.device, *ctx.devices)])


def judge(processes: Mapping[int, str], links: Iterable[str]) -> list[Finding]:
    """Pure. `processes`: name by pid."""
    found = [_daemon(DAEMONS[name], name, pid) for pid, name in sorted(processes.items()) if name in DAEMONS]
    running = {DAEMONS[name] for name in processes.values() if name in DAEMONS}
    for link in links:
        whose = next((whose for begin, whose in LINKS.items() if link.startswith(begin)), "")
        if whose and whose not in running:
            found.append(
                Finding(
                    severity="warning",
                    subject=link,
                    what=f"an interface of {whose} is left, and no {whose} runs",
                    why="its routes and its UDP port can stand in the way of the cluster's packets",
                    mend=f"ip link delete dev {link}",
                )
            )
    return found or [Finding(severity="ok", subject="overlays", what="there is no other one")]


def _daemon(whose: str, name: str, pid: int) -> Finding:
    if whose in CONFLICTING:
        why = "both write subnet.env, hold a lease under this node's address and listen on the same port"
        return Finding(
            severity="error",
            subject=name,
            what=f"{whose} runs here too (pid {pid})",
            why=why,
            mend=f"kill {pid}",
        )
    return Finding(
        severity="warning",
        subject=name,
        what=f"{whose} runs here too (pid {pid})",
        why="two programs make routes for pods; which one a pod is on decides whom it reaches",
        mend=f"kill {pid}  # where only tulle is meant to join this node's pods",
    )
