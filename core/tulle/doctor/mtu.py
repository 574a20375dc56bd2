"""MTUs that must fit each other: the underlay's, the tunnel's, what subnet.env tells those who make pods, and the other
nodes' (peermtus)."""

from __future__ import annotations

from collections.abc import Mapping

from tulle.contracts.backend import Family
from tulle.contracts.doctor import DoctorContext, Finding
from tulle.doctor import peermtus, reading
from tulle.doctor.bridge import pods_links


async def check(ctx: DoctorContext) -> list[Finding]:
    from tulle.kernel.netlink import Netlink

    async with Netlink() as netlink:
        seen = await netlink.surroundings()
    links = {one.name: one.mtu for one in seen.links}
    outer = {one.version for peer in ctx.peers for one in peer.endpoints[:1]}
    overhead: Mapping[Family, int] = {
        family: cost for family, cost in ctx.overhead_bytes.items() if family in outer
    }
    env = reading.text(ctx.subnet_file)
    costs = overhead or dict(ctx.overhead_bytes)
    found = [
        judge_tunnel(ctx, links.get(ctx.link), links.get(device), costs, device)
        for device in ctx.devices or (ctx.device,)
    ]
    found.append(judge_subnet_env(str(ctx.subnet_file), env, pods_mtu(ctx, links)))
    found += judge_bridges(ctx, {one.name: one.mtu for one in pods_links(ctx, seen.links)}, links)
    cost = min(costs.values(), default=0)
    return found + peermtus.judge(ctx, pods_mtu(ctx, links), peermtus.told(ctx), cost)


def pods_mtu(ctx: DoctorContext, links: Mapping[str, int]) -> int | None:
    """What a pod may send: by all of the tunnel's devices, so the smallest counts. None: there is no tunnel. Pure."""
    there = [links[one] for one in ctx.devices or (ctx.device,) if one in links]
    return ctx.mtu or min(there, default=None)


def judge_tunnel(
    ctx: DoctorContext,
    underlay: int | None,
    tunnel: int | None,
    overhead: Mapping[Family, int],
    device: str = "",
) -> Finding:
    """Pure; MTUs in bytes, None where the interface is not there. `device`: of the tunnel; "": its only one."""
    device = device or ctx.device
    if tunnel is None or underlay is None or not overhead:
        return Finding(
            severity="skipped",
            subject=device or "tunnel",
            what="there is no tunnel, or no underlay, to compare",
        )
    cost = min(overhead.values())
    needed = tunnel + cost
    if underlay >= needed:
        what = f"{tunnel} and {cost} of encapsulation fit into {ctx.link}'s {underlay}"
        return Finding(severity="ok", subject=device, what=what)
    return Finding(
        severity="error" if underlay < needed // 2 else "warning",
        subject=ctx.link,
        what=f"its MTU is {underlay}, but full packets of {device} need {needed} ({tunnel} and {cost})",
        why="each of them is cut into fragments, or dropped where fragments are not allowed: small pings pass, "
        "transfers are slow or hang",
        mend=f"ip link set dev {ctx.link} mtu {needed}  # or restart tulled, which then takes the smaller one",
    )


def judge_subnet_env(path: str, text: str | None, tunnel: int | None) -> Finding:
    """Pure."""
    if text is None:
        return Finding(
            severity="warning",
            subject=path,
            what="is not there",
            why="the CNI plugin does not know this node's subnet: no new pod starts",
            mend="tulle status  # tulled writes it as soon as it is ready",
        )
    told = dict(line.split("=", 1) for line in text.splitlines() if "=" in line).get("FLANNEL_MTU", "")
    if tunnel is None:
        return Finding(
            severity="skipped", subject=path, what=f"says MTU {told}; there is no tunnel to compare"
        )
    if told == str(tunnel):
        return Finding(severity="ok", subject=path, what=f"says MTU {told}, as the tunnel has")
    return Finding(
        severity="warning",
        subject=path,
        what=f"says MTU {told or '(nothing)'}, the tunnel has {tunnel}",
        why="new pods get an MTU that does not fit: too large drops or cuts packets, too small costs speed",
        mend=f"sed -i 's/^FLANNEL_MTU=.*/FLANNEL_MTU={tunnel}/' {path}  # a running tulled does it by itself",
    )


def judge_bridges(ctx: DoctorContext, bridges: Mapping[str, int], links: Mapping[str, int]) -> list[Finding]:
    """Pure. `bridges`: interfaces with an address of our subnets."""
    tunnel = pods_mtu(ctx, links)
    return [
        Finding(
            severity="warning",
            subject=name,
            what=f"the pods' interface has MTU {mtu}, the tunnel {tunnel}",
            why="pods send packets that the tunnel refuses; those that hide ICMP from their sender hang",
            mend=f"ip link set dev {name} mtu {tunnel}  # pods that run already keep theirs: start them anew",
        )
        for name, mtu in bridges.items()
        if tunnel is not None and mtu > tunnel
    ]
