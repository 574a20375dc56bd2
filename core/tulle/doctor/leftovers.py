"""Stale links and routes of ours, and routes of others in the way of the cluster's networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tulle.contracts.backend import Peer
from tulle.contracts.doctor import DoctorContext, Finding
from tulle.doctor.daemon import start_command
from tulle.kernel.state import RTPROT_TULLE, SeenRoute, WantedRoute
from tulle.kernel.underlay import LocalLink
from tulle.net.prefix import Prefix
from tulle.node.rundir import RunDir

RTPROT_KERNEL = 2
"""The route to a network that an interface has an address of (linux/rtnetlink.h)."""


async def check(ctx: DoctorContext) -> list[Finding]:
    from tulle.kernel.netlink import Netlink

    async with Netlink() as netlink:
        routes = await netlink.routes()
        seen = await netlink.surroundings()
    ours = [one.route for one in routes if one.protocol == RTPROT_TULLE]
    links = [one for one in seen.links if one.ours]
    if ctx.status is None and not RunDir(ctx.run_dir).forwarders():
        found = judge_orphans(ours, links, start_command("start"))
    else:
        found = judge_ours(ours, ctx.networks)
    found += judge_foreign(routes, ctx.networks, ctx.subnets, ctx.peers)
    return found or [
        Finding(severity="ok", subject="links, routes", what="nothing stale, nothing foreign in the way")
    ]


def judge_orphans(ours: Sequence[WantedRoute], links: Sequence[LocalLink], start: str) -> list[Finding]:
    """Pure: what is left where neither tulled nor a forwarder runs. A kernel backend's routes carry packets on."""
    mend = f"tulle down  # or go on with it: {start}"
    found = [
        Finding(
            severity="error",
            subject=str(one.destination),
            what=f"the route {one.text!r} is left of a tulled that no longer runs",
            why="this node's packets to the cluster's pods are refused",
            mend=mend,
        )
        for one in ours
        if one.kind == "unreachable" and not any(other.kind == "unicast" for other in ours)
    ]
    return found + [
        Finding(
            severity="warning",
            subject=link.name,
            what="this interface is left of a tulled that no longer runs",
            why="packets to peers known then may pass; nobody follows what changes",
            mend=mend,
        )
        for link in links
    ]


def judge_ours(ours: Iterable[WantedRoute], networks: Sequence[Prefix]) -> list[Finding]:
    """Pure: routes with our mark that lead to no network of the cluster."""
    return [
        Finding(
            severity="warning",
            subject=str(one.destination),
            what=f"the route {one.text!r} has tulle's mark, but lies outside the cluster's networks",
            why="it is left of an earlier config, and draws what it should not",
            mend=delete(one, f" proto {RTPROT_TULLE}"),
        )
        for one in ours
        if networks and not any(_overlap(one.destination, network) for network in networks)
    ]


def judge_foreign(
    routes: Sequence[SeenRoute], networks: Sequence[Prefix], own: Sequence[Prefix], peers: Sequence[Peer]
) -> list[Finding]:
    """Pure: routes of others that take packets of the cluster, or whose hosts the cluster hides."""
    found = []
    for seen in routes:
        route = seen.route
        mine = any(_inside(route.destination, subnet) for subnet in own)
        if seen.protocol == RTPROT_TULLE or route.destination.prefixlen == 0 or mine:
            continue
        for network in networks:
            if _inside(route.destination, network):
                found.append(_taking(route, network, routes, peers))
            elif _inside(network, route.destination) and seen.protocol == RTPROT_KERNEL:
                found.append(_hidden(route, network))
    return [one for one in found if one is not None]


def _taking(
    route: WantedRoute, network: Prefix, routes: Sequence[SeenRoute], peers: Sequence[Peer]
) -> Finding | None:
    """A route inside the cluster's network. One to the same destination as ours matters where it is preferred."""
    same = [
        one for one in routes if one.protocol == RTPROT_TULLE and one.route.destination == route.destination
    ]
    if any(one.route.kind == "unicast" and one.route.metric < route.metric for one in same):
        return None
    hit = [peer.node for peer in peers if any(_overlap(route.destination, one) for one in peer.prefixes)]
    whom = f"pods of {', '.join(hit[:3])}{' and others' if len(hit) > 3 else ''}" if hit else "no node yet"
    return Finding(
        severity="error" if hit else "warning",
        subject=str(route.destination),
        what=f"the route {route.text!r}, which is not tulle's, lies in the cluster's network {network} ({whom})",
        why="packets to these addresses go there and not into the tunnel",
        mend=delete(route),
    )


def _hidden(route: WantedRoute, network: Prefix) -> Finding:
    return Finding(
        severity="warning",
        subject=str(route.destination),
        what=f"this node's own network {route.destination} ({route.link}) contains the cluster's {network}",
        why="hosts of that network with such addresses are no longer reached from here",
        mend="tulle config show  # choose a Network that is used nowhere else, before the cluster grows",
    )


def delete(route: WantedRoute, more: str = "") -> str:
    family = " -6" if route.destination.version == 6 else ""
    return f"ip{family} route del {route.text}{more}"


def _overlap(one: Prefix, other: Prefix) -> bool:
    return one.version == other.version and one.overlaps(other)


def _inside(inner: Prefix, outer: Prefix) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # same version
