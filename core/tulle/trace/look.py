"""Reads what a trace needs: the kernel's routes and links, the time left of the lease."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from tulle.contracts.backend import Family, Peer
from tulle.contracts.doctor import DoctorContext
from tulle.contracts.store import NO_LEASE, KeyValue, StoreError
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import SeenRoute
from tulle.kernel.underlay import RT_SCOPE_UNIVERSE, LocalLink
from tulle.net.prefix import Address
from tulle.trace.target import Target
from tulle.trace.way import Seen


async def look(ctx: DoctorContext, target: Target) -> Seen:
    """Raises OSError where the kernel cannot be asked."""
    async with Netlink() as netlink:
        way = await netlink.way(target.address)
        refusing = "" if way.kind in ("unicast", "local") else refuser(await netlink.routes(), target.address)
        surroundings = await netlink.surroundings()
        families = carriers(ctx, target.address.version, outer_families(ctx, surroundings.links))
        usable = [one for one in (target.peer.endpoints if target.peer else ()) if one.version in families]
        endpoint = usable[0] if usable else None
        outer = await netlink.way(endpoint) if endpoint is not None else None
    return Seen(
        ctx=ctx,
        target=target,
        way=way,
        refusing=refusing,
        links={one.name: one for one in surroundings.links},
        endpoint=endpoint,
        outer=outer,
        lease_left=await lease_left(ctx, target.peer),
    )


def outer_families(ctx: DoctorContext, links: Sequence[LocalLink]) -> set[Family]:
    """In which datagrams may leave: those of the underlay's addresses, as the backend takes them. Pure."""
    told = ((ctx.status or {}).get("underlay") or {}).get("addresses")
    if told:
        return {ip_address(one).version for one in told}
    return {
        one.address.version
        for link in links
        for one in link.addresses
        if link.name == ctx.link and one.scope == RT_SCOPE_UNIVERSE
    }


def carriers(ctx: DoctorContext, inner: Family, outer: set[Family]) -> set[Family]:
    """Of the outer families those that packets of a family may travel over: a backend with several devices has one for
    each family of pods, over the same family. Pure."""
    return outer & {inner} if len(ctx.devices) > 1 else outer


def refuser(routes: Sequence[SeenRoute], address: Address) -> str:
    """The route that refuses packets to that address: the longest prefix that holds it, where it is none that leads
    anywhere. Pure."""
    holding = [
        one.route
        for one in routes
        if one.route.destination.version == address.version and address in one.route.destination
    ]
    if not holding:
        return ""
    best = max(holding, key=lambda one: (one.destination.prefixlen, -one.metric))
    return "" if best.kind == "unicast" else best.text


async def lease_left(ctx: DoctorContext, peer: Peer | None) -> str:
    """For people; "" where it is not known."""
    kv = ctx.records.get(f"{ctx.prefix}/subnets/{peer.key}") if peer is not None else None
    if kv is None or ctx.store is None:
        return ""
    if kv.lease == NO_LEASE:
        return "reserved"
    try:
        left = (await ctx.store.remaining({kv.lease})).get(kv.lease)
    except StoreError:
        return ""
    return "" if left is None else f"expires in {left / 3600:.1f} h"


async def pod_records(ctx: DoctorContext) -> Sequence[KeyValue]:
    """All pods in the store; empty where it does not answer."""
    if ctx.store is None:
        return ()
    try:
        return (await ctx.store.list(f"{ctx.prefix}/pods/")).items
    except StoreError:
        return ()
