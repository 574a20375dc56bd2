"""The way of a packet from this node, step by step, each with the rule that decides it. Pure.

destination -> route -> bridge, or tunnel -> peer -> encapsulation -> outer route -> MTU
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tulle.contracts.backend import Family
from tulle.contracts.doctor import DoctorContext
from tulle.kernel.state import Way
from tulle.kernel.underlay import LocalLink
from tulle.net.prefix import Address
from tulle.trace.target import Target


class Step(msgspec.Struct, frozen=True):
    """One line of a trace."""

    name: str
    what: str
    """What happens to the packet here."""
    rule: str = ""
    """What decides that: a route, a lease, a setting."""
    ok: bool = True
    """False: it stops here, and `what` says why and what to do."""
    part: bool = False
    """Not ok, but small packets go on all the same."""

    @property
    def stops(self) -> bool:
        """Nothing goes on from here."""
        return not self.ok and not self.part


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read for a trace."""

    ctx: DoctorContext
    target: Target
    way: Way
    """To the target."""
    refusing: str = ""
    """The route that refuses, where `way` is none."""
    links: Mapping[str, LocalLink] = {}
    endpoint: Address | None = None
    """The peer's, that datagrams go to."""
    outer: Way | None = None
    """To that endpoint."""
    lease_left: str = ""
    """For people: "expires in 23h59m"."""


def steps(seen: Seen) -> list[Step]:
    """Up to the first that stops the packet."""
    found: list[Step] = []
    for make in (_destination, _route, _link, _peer, _encapsulation, _outer, _mtu):
        step = make(seen)
        if step is not None:
            found.append(step)
            if step.stops:
                break
    return found


def in_tunnel(seen: Seen) -> bool:
    """Whether the packet goes into one of the tunnel's devices."""
    devices = seen.ctx.devices or tuple(filter(None, [seen.ctx.device]))
    return seen.way.kind == "unicast" and seen.way.link in devices


def _destination(seen: Seen) -> Step:
    target = seen.target
    name = f"{target.what} ({target.address})" if target.what != str(target.address) else target.what
    if target.peer is not None:
        rule = f"lease {target.peer.key}{f', {seen.lease_left}' if seen.lease_left else ''}"
        return Step("destination", f"{name}: in {target.prefix}, the subnet of {target.node}", rule)
    if target.prefix is not None:
        return Step("destination", f"{name}: in {target.prefix}, this node's own subnet")
    networks = [one for one in seen.ctx.networks if one.version == target.address.version]
    inside = [one for one in networks if target.address in one]
    if inside:
        return Step(
            "destination", f"{name}: in the cluster's network {inside[0]}, but no node has its subnet"
        )
    known = ", ".join(map(str, seen.ctx.networks)) or "which is not known here"
    return Step("destination", f"{name}: outside the cluster's network {known}")


def _route(seen: Seen) -> Step:
    way = seen.way
    if way.kind == "local":
        return Step("route", "it is an address of this node itself: the packet does not leave", way.rule)
    if way.kind != "unicast":
        advice = (
            "the tunnel is gone: is tulled running? (tulle doctor)"
            if seen.refusing
            else "add one (ip route add)"
        )
        return Step(
            "route", f"the kernel has no way there: {advice}", seen.refusing or "no route matches", False
        )
    via = f" by {way.gateway}" if way.gateway is not None else ""
    source = f", source address {way.source}" if way.source is not None else ""
    return Step("route", f"out of {way.link}{via}{source}", way.rule)


def _link(seen: Seen) -> Step | None:
    if seen.way.kind != "unicast":
        return None
    link = seen.links.get(seen.way.link)
    state = "" if link is None else f"{'up' if link.up else 'down'}, MTU {link.mtu}"
    up = link is None or link.up
    if in_tunnel(seen):
        if not up:
            return Step(
                "tunnel", f"{seen.way.link} is down: ip link set dev {seen.way.link} up", state, False
            )
        return Step("tunnel", f"{seen.way.link} ({state}){_reader(seen)}", *_no_reader(seen))
    if seen.target.peer is None and seen.target.prefix is not None:
        return Step("bridge", f"{seen.way.link} ({state}): the bridge alone takes it to the pod", ok=up)
    if seen.target.peer is not None:
        return Step(
            "link", f"{seen.way.link} ({state}): by the kernel's own routes, not through a tunnel", ok=up
        )
    return Step("link", f"{seen.way.link} ({state}): tulle has no part in it", ok=up)


def _reader(seen: Seen) -> str:
    plane = _plane(seen)
    if seen.ctx.status is None:
        return ": what reads it is not known, no tulled says so"
    if not plane:
        return ": the kernel itself carries what goes into it"
    pid = plane.get("forwarder_pid")
    return f": read by the forwarder (pid {pid})" if pid else ": no forwarder reads it. See tulle doctor"


def _no_reader(seen: Seen) -> tuple[str, bool]:
    plane = _plane(seen)
    return "", not plane or bool(plane.get("forwarder_pid"))


def _peer(seen: Seen) -> Step | None:
    if not in_tunnel(seen):
        return None
    peer = seen.target.peer
    if peer is None:
        own = seen.target.prefix is not None
        what = (
            "it is of this node's own subnet, but no bridge here has that: no pod runs yet, or the bridge is gone"
            if own
            else "no node's lease holds this address: the forwarder answers 'unreachable'. See tulle leases"
        )
        return Step("peer", what, "longest prefix of all peers' subnets", False)
    if seen.endpoint is None:
        what = f"{peer.node} has no address of a family that this node's underlay has"
        return Step("peer", what, f"lease {peer.key}", False)
    return Step("peer", f"{peer.node}, at {seen.endpoint}", f"{seen.target.prefix} is the longest prefix")


def _encapsulation(seen: Seen) -> Step | None:
    if not in_tunnel(seen) or seen.endpoint is None:
        return None
    plane = _plane(seen)
    cost = _cost(seen)
    more = f"{'a number of' if cost is None else cost} bytes more"
    what = f"{seen.ctx.backend or 'unknown backend'}, {more} over IPv{seen.endpoint.version}"
    if port := _port(seen):
        what += f", to port {port}/udp"
    engine = plane.get("engine", "")
    return Step(
        "encapsulation", what, f"engine {engine}: {plane.get('engine_because', '')}" if engine else ""
    )


def _outer(seen: Seen) -> Step | None:
    if seen.outer is None or seen.endpoint is None:
        return None
    if seen.outer.kind != "unicast":
        what = f"the kernel has no way to {seen.endpoint}: mend the underlay (ip route get {seen.endpoint})"
        return Step("outer route", what, "no route matches", False)
    via = f" by {seen.outer.gateway}" if seen.outer.gateway is not None else ""
    return Step("outer route", f"to {seen.endpoint} out of {seen.outer.link}{via}", seen.outer.rule)


def _mtu(seen: Seen) -> Step | None:
    if seen.outer is None:
        return None
    outer, inner = seen.links.get(seen.outer.link), seen.links.get(seen.way.link)
    if outer is None or inner is None:
        return None
    cost = _cost(seen)
    if cost is None:
        return Step("MTU", UNKNOWN_MTU, f"{outer.name} has {outer.mtu}; {inner.name} has {inner.mtu}")
    room = outer.mtu - cost
    rule = f"{outer.name}'s {outer.mtu} less {cost}; {inner.name} has {inner.mtu}"
    if inner.mtu <= room:
        return Step(
            "MTU", f"packets of up to {inner.mtu} bytes pass whole ({room - inner.mtu} to spare)", rule
        )
    what = (
        f"packets of more than {room} bytes are cut or dropped on {outer.name}: give it an MTU of {inner.mtu + cost} "
        f"(ip link set dev {outer.name} mtu {inner.mtu + cost})"
    )
    return Step("MTU", what, rule, False, part=True)


UNKNOWN_MTU = "not known: without the network config in the store nobody can say by how much packets grow"


def _cost(seen: Seen) -> int | None:
    """In bytes. A plain route adds none, also where there is a tunnel beside it (DirectRouting). None: not known."""
    plain = seen.outer is not None and seen.outer.link == seen.way.link
    if plain and not in_tunnel(seen):
        return 0
    family: Family = seen.endpoint.version if seen.endpoint is not None else 4
    return seen.ctx.overhead_bytes.get(family)


def _port(seen: Seen) -> int:
    """Of the device, where each has one of its own; 0: none, or not known."""
    ctx = seen.ctx
    of_device = dict(zip(ctx.devices, ctx.ports, strict=False)) if len(ctx.devices) == len(ctx.ports) else {}
    return of_device.get(seen.way.link, ctx.port)


def _plane(seen: Seen) -> Mapping[str, object]:
    """What tulled says of it; empty where none answers, or the backend has no forwarder. A backend whose devices have
    a forwarder each has as many of them, in the same order."""
    status = seen.ctx.status or {}
    planes: list[Mapping[str, object]] = [status.get("dataplane") or {}]
    planes += (status.get("second_dataplanes") or {}).values()
    devices = seen.ctx.devices
    each = seen.way.link in devices and len(devices) == len(planes)
    found = planes[devices.index(seen.way.link)] if each else planes[0]
    return found if found.get("engine") else {}
