"""The interface that leads to the other nodes: it is there, up, and their addresses lie behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.kernel.state import Way
from tulle.kernel.underlay import LocalLink
from tulle.net.prefix import Address

PEERS_LOOKED_AT = 64


async def check(ctx: DoctorContext) -> list[Finding]:
    from tulle.kernel.netlink import Netlink

    async with Netlink() as netlink:
        seen = await netlink.surroundings()
        ways: dict[Address, Way] = {}
        for address in first_endpoints(ctx):
            ways[address] = await netlink.way(address)
    return judge(ctx, seen.links, ways)


def first_endpoints(ctx: DoctorContext) -> list[Address]:
    """Of the first peers, the address that datagrams go to."""
    return [peer.endpoints[0] for peer in ctx.peers[:PEERS_LOOKED_AT] if peer.endpoints]


def judge(ctx: DoctorContext, links: Sequence[LocalLink], ways: Mapping[Address, Way]) -> list[Finding]:
    """Pure."""
    why = "no packet leaves for another node, and none of theirs arrives"
    link = next((one for one in links if one.name == ctx.link), None)
    if not ctx.link:
        mend = "ip route add default via GATEWAY  # or tell tulled which interface it is: --iface"
        what = (
            "no interface leads to other nodes: there is no default route, and no tulled that knows another"
        )
        return [Finding(severity="error", subject="underlay", what=what, why=why, mend=mend)]
    if link is None:
        mend = "ip link  # bring it back, or restart tulled with another --iface"
        what = "this interface, which led to the other nodes, is gone"
        return [Finding(severity="error", subject=ctx.link, what=what, why=why, mend=mend)]
    if not link.up:
        mend = f"ip link set dev {link.name} up  # routes that went with it: see your network configuration"
        return [Finding(severity="error", subject=link.name, what="is down", why=why, mend=mend)]
    lost = [address for address, way in ways.items() if way.kind != "unicast"]
    if lost:
        return [
            Finding(
                severity="error",
                subject=link.name,
                what=f"the kernel has no way to {len(lost)} of {len(ways)} peers, such as {lost[0]}",
                why="their datagrams arrive at best, ours to them do not leave",
                mend=f"ip route get {lost[0]}  # then add the route that is missing",
            )
        ]
    looked_at = (
        "the 1 peer looked at has a way" if len(ways) == 1 else f"the {len(ways)} peers looked at have a way"
    )
    what = f"is up, and {looked_at}" if ways else "is up; no peer is known yet"
    return [Finding(severity="ok", subject=link.name, what=what)]
