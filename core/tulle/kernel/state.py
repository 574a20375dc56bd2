"""Links, addresses, routes, neighbours and FDB entries as they are wanted and as they were seen, and the difference.
Pure.

`diff` gives the actions in the order in which the kernel can take them: links first, then addresses (a route's source
must exist), then what leads to a peer before the route to it; routes, the unreachable ones first so that no packet
escapes in between; and what is not wanted any more at the end, the other way round.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from itertools import chain

import msgspec

from tulle.contracts.backend import Problem
from tulle.contracts.kernel import (
    ALIAS,
    IP6_RT_PRIO_USER,
    Interface,
    Slot,
    VxlanFacts,
    Wanted,
    WantedAddress,
    WantedFdb,
    WantedLink,
    WantedNeighbour,
    WantedRoute,
    WantedVxlan,
)
from tulle.kernel.actions import (
    Action,
    AddAddress,
    AddRoute,
    DeleteLink,
    MakeLink,
    RemoveAddress,
    RemoveFdb,
    RemoveNeighbour,
    RemoveRoute,
    SetFdb,
    SetLink,
    SetNeighbour,
    Setting,
    SetVxlan,
)
from tulle.kernel.rtwire import RTPROT_BOOT, RTPROT_TULLE
from tulle.net.prefix import Address, Prefix

__all__ = [
    "ALIAS",
    "COVER_METRIC",
    "IP6_RT_PRIO_USER",
    "RTPROT_TULLE",
    "Action",
    "AddAddress",
    "AddRoute",
    "DeleteLink",
    "Interface",
    "MakeLink",
    "Plan",
    "RemoveAddress",
    "RemoveFdb",
    "RemoveNeighbour",
    "RemoveRoute",
    "Seen",
    "SeenLink",
    "SeenRoute",
    "SetFdb",
    "SetLink",
    "SetNeighbour",
    "SetVxlan",
    "Slot",
    "VxlanFacts",
    "Wanted",
    "WantedAddress",
    "WantedFdb",
    "WantedLink",
    "WantedNeighbour",
    "WantedRoute",
    "WantedVxlan",
    "Way",
    "cover",
    "diff",
]

COVER_METRIC = 1_000_000
"""Of the unreachable routes that cover the cluster networks: worse than any metric in everyday use."""


def cover(network: Prefix) -> WantedRoute:
    """The unreachable route that keeps a cluster network's packets from leaving in clear when its link is
    lost."""
    return WantedRoute(network, None, "unreachable", COVER_METRIC)


class SeenLink(msgspec.Struct, frozen=True):
    """A link as the kernel has it."""

    name: str
    index: int
    mtu: int
    txqueuelen: int
    up: bool
    alias: str = ""
    mac: str = ""
    """"" where it has none."""
    vxlan: VxlanFacts | None = None
    tx_checksum: bool | None = None
    """None: nobody asked."""


class SeenRoute(msgspec.Struct, frozen=True):
    """A route of the main table, ours or anyone's."""

    route: WantedRoute
    protocol: int
    """Who made it: RTPROT_TULLE, or another number of linux/rtnetlink.h."""


class Way(msgspec.Struct, frozen=True):
    """What the kernel would do with a packet to some address."""

    kind: str
    """"unicast", "local" (it is ours), "none" (no route, or one that refuses), or another word of rtnetlink(7)."""
    link: str = ""
    gateway: Address | None = None
    source: Address | None = None
    """The source address that it would take."""
    rule: str = ""
    """The route that decided, as `ip route` writes it, with its protocol."""


class Seen(msgspec.Struct, frozen=True):
    """What was read from the kernel: as much of it as `diff` needs."""

    links: Mapping[str, SeenLink] = {}
    addresses: tuple[WantedAddress, ...] = ()
    """Of those links."""
    routes: tuple[WantedRoute, ...] = ()
    """Those with our protocol."""
    foreign: Mapping[Slot, str] = {}
    """By `WantedRoute.slot`: routes of others that stand where we want one, in words."""
    neighbours: tuple[WantedNeighbour, ...] = ()
    """The permanent ones of those links."""
    fdb: tuple[WantedFdb, ...] = ()
    """The permanent ones of those links."""
    unnamed: tuple[WantedRoute, ...] = ()
    """Routes on VXLAN devices of ours whose maker named no protocol, as flannel's: what is left of it when we take over
    its device. They are ours to replace and to remove."""
    stale: tuple[SeenLink, ...] = ()
    """VXLAN devices that are ours and that nobody wants."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be done, in order, and what cannot be done now."""

    actions: tuple[Action, ...] = ()
    problems: tuple[Problem, ...] = ()


def diff(wanted: Wanted, seen: Seen) -> Plan:
    """The way from `seen` to `wanted`. Nothing that is not marked as ours is changed or removed: a link with
    another alias and a route of another protocol are problems, and what stands on them is left out.

    A device that is to be made has no index yet, so what stands on it comes with the next look."""
    to_make = {w.name for w in wanted.links if w.vxlan is not None and w.vxlan.link in seen.links}
    problems = [_missing(n) for n in wanted.link_names() if n not in seen.links and n not in to_make]
    strangers = {w.name: why for w in wanted.links if (why := _stranger(w, seen.links.get(w.name)))}
    problems += [_foreign_link(name, strangers[name]) for name in sorted(strangers)]
    usable = {name: link for name, link in seen.links.items() if name not in strangers}

    actions: list[Action] = []
    if not wanted.partial:
        actions += [DeleteLink(one.name, one.index, "nothing wants it any more") for one in seen.stale]
    for link in wanted.links:
        if link.name in strangers:
            continue
        if link.vxlan is not None and (
            link.name not in usable or _unfit(link.vxlan, usable[link.name].vxlan)
        ):
            actions += _make_actions(link, link.vxlan, seen.links)
            usable.pop(link.name, None)
        elif link.name in usable:
            actions += _link_actions(link, usable[link.name], seen.links)
    actions += _address_actions(wanted, seen, usable)
    setting, removing = _entry_actions(wanted, seen, usable)
    routes, in_the_way = _route_actions(wanted, seen, usable)
    return Plan((*actions, *setting, *routes, *removing), (*problems, *in_the_way))


def _stranger(wanted: WantedLink, seen: SeenLink | None) -> str:
    """Why a link must not be touched; "" where it may be."""
    if seen is None:
        return ""
    if seen.alias not in ("", wanted.alias):
        return f'is marked "{seen.alias}" and so belongs to something else'
    if wanted.vxlan is not None and seen.vxlan is None:
        return "is no VXLAN device"
    return ""


def _unfit(wanted: WantedVxlan, seen: VxlanFacts | None) -> str:
    """What the kernel cannot change on a VXLAN device (vxlan_changelink in drivers/net/vxlan/vxlan_core.c)."""
    if seen is None:
        return ""
    for word, want, was in (
        ("VNI", wanted.vni, seen.vni),
        ("port", wanted.port, seen.port),
        ("GBP", wanted.gbp, seen.gbp),
    ):
        if want != was:
            return f"{word} was {was} and cannot be changed to {want}"
    if seen.local is not None and seen.local.version != wanted.local.version:
        return f"its outer packets were IPv{seen.local.version} and cannot be changed to IPv{wanted.local.version}"
    if wanted.local.version == 6 and seen.zero_checksum6:
        return "it left out the outer checksum, which cannot be changed and which IPv6 needs"
    return ""


def _make_actions(link: WantedLink, vxlan: WantedVxlan, links: Mapping[str, SeenLink]) -> Iterable[Action]:
    if vxlan.link not in links:
        return []
    old = links.get(link.name)
    removals: list[Action] = (
        [DeleteLink(old.name, old.index, f"to be made anew: {_unfit(vxlan, old.vxlan)}")] if old else []
    )
    return [*removals, MakeLink(link, vxlan, links[vxlan.link].index)]


def _link_actions(wanted: WantedLink, seen: SeenLink, links: Mapping[str, SeenLink]) -> Iterable[Action]:
    """One action for each setting that differs; up comes last, so that a link starts with its final MTU."""
    actions: list[Action] = []
    vxlan = wanted.vxlan
    if vxlan is not None and seen.vxlan is not None and vxlan.link in links:
        what = "; ".join(_changed(vxlan, seen.vxlan, links[vxlan.link].index))
        if what:
            actions.append(SetVxlan(seen.name, seen.index, vxlan, links[vxlan.link].index, what))
    pairs: tuple[tuple[Setting, str | int | None, str | int | None], ...] = (
        ("alias", wanted.alias, seen.alias),
        ("mac", vxlan.mac if vxlan is not None else None, seen.mac),
        ("mtu", wanted.mtu, seen.mtu),
        ("txqueuelen", wanted.txqueuelen, seen.txqueuelen),
        ("tx_checksum", wanted.tx_checksum, seen.tx_checksum),
        ("up", wanted.up, seen.up),
    )
    return actions + [
        SetLink(seen.name, seen.index, key, want, was)
        for key, want, was in pairs
        if want is not None and want != was
    ]


def _changed(wanted: WantedVxlan, seen: VxlanFacts, lower: int) -> Iterable[str]:
    for word, want, was in (
        ("lower device", lower, seen.index),
        ("outer source", wanted.local, seen.local),
        ("learning", wanted.learning, seen.learning),
        ("ttl", wanted.ttl, seen.ttl),
    ):
        if want != was:
            yield f"{word} was {was}, set to {wanted.link if word == 'lower device' else want}"


def _address_actions(wanted: Wanted, seen: Seen, usable: Mapping[str, SeenLink]) -> Iterable[Action]:
    """Removals first: IPv6 refuses an address that is there with another prefix length."""
    want, have = set(wanted.addresses), set(seen.addresses)
    ours = {w.name for w in wanted.links if w.name in usable and usable[w.name].alias == w.alias}
    stale = [a for a in seen.addresses if a not in want and a.link in ours and not a.address.is_link_local]
    missing = [a for a in dict.fromkeys(wanted.addresses) if a not in have and a.link in usable]
    removals: list[Action] = [RemoveAddress(a, usable[a.link].index) for a in stale if not wanted.partial]
    return removals + [AddAddress(a, usable[a.link].index) for a in missing]


def _route_actions(
    wanted: Wanted, seen: Seen, usable: Mapping[str, SeenLink]
) -> tuple[Iterable[Action], Iterable[Problem]]:
    """A changed route is removed and added again, not replaced: the kernel's replace takes the first route of
    that slot, which can be another program's. In between the new one stands by with a metric worse by one, so that no
    packet finds none."""
    want, problems = _one_a_slot(wanted.routes)
    have = set(seen.routes)
    missing = [r for r in want if r not in have and (r.link is None or r.link in usable)]
    problems += [_foreign_route(r, seen.foreign[r.slot]) for r in missing if r.slot in seen.foreign]
    stale: dict[Slot, list[WantedRoute]] = {}
    for old in seen.routes:
        if old not in want:
            stale.setdefault(old.slot, []).append(old)

    unnamed = {old.slot: old for old in seen.unnamed if old.link in usable}
    taken = (
        {one.slot for one in chain(want, seen.routes, unnamed.values())} | set(seen.foreign)
        if stale
        else set()
    )
    actions: list[Action] = []
    for new in sorted((r for r in missing if r.slot not in seen.foreign), key=_order):
        index = usable[new.link].index if new.link is not None else 0
        add = AddRoute(new, index, replaces=unnamed.pop(new.slot, None) is not None)
        removals = [RemoveRoute(one) for one in stale.pop(new.slot, ())]
        actions += _change(add, removals, taken) if removals else [add]
    if not wanted.partial:
        actions += [RemoveRoute(old, RTPROT_BOOT) for old in unnamed.values()]
    left = [] if wanted.partial else [old for in_slot in stale.values() for old in in_slot]
    return actions + [RemoveRoute(old) for old in sorted(left, key=_order, reverse=True)], problems


def _change(add: AddRoute, old: list[RemoveRoute], taken: Container[Slot]) -> list[Action]:
    """One route for another in its slot. `taken`: slots where nothing can stand in."""
    aside = msgspec.structs.replace(add.route, metric=add.route.metric + 1)
    if aside.slot in taken or add.route.kind != "unicast":
        return [*old, add]
    return [
        AddRoute(aside, add.index, passing=True),
        *old,
        add,
        RemoveRoute(aside, passing=True),
    ]


def _entry_actions(
    wanted: Wanted, seen: Seen, usable: Mapping[str, SeenLink]
) -> tuple[list[Action], list[Action]]:
    """Neighbours and FDB entries: what is to be set (which takes the place of what is there), and what is to be
    removed, only from links that are ours. A new MAC has its FDB entry before a neighbour names it."""
    ours = {w.name for w in wanted.links if w.name in usable and not wanted.partial}
    have_fdb, have_neighbours = set(seen.fdb), set(seen.neighbours)
    new_fdb = [e for e in wanted.fdb if e not in have_fdb and e.link in usable]
    new_neighbours = [e for e in wanted.neighbours if e not in have_neighbours and e.link in usable]
    setting: list[Action] = [SetFdb(e, usable[e.link].index) for e in new_fdb]
    setting += [SetNeighbour(e, usable[e.link].index) for e in new_neighbours]

    replaced = {e.slot for e in new_neighbours}
    stale_neighbours = have_neighbours.difference(wanted.neighbours)
    removing: list[Action] = [
        RemoveNeighbour(e, usable[e.link].index)
        for e in stale_neighbours
        if e.link in ours and e.slot not in replaced
    ]
    taken = {e.slot for e in new_fdb}
    stale_fdb = have_fdb.difference(wanted.fdb)
    removing += [
        RemoveFdb(e, usable[e.link].index) for e in stale_fdb if e.link in ours and e.slot not in taken
    ]
    return setting, removing


def _one_a_slot(routes: Iterable[WantedRoute]) -> tuple[dict[WantedRoute, None], list[Problem]]:
    """The routes without those that stand in the way of an earlier one. Two nodes can claim one subnet: that
    is data from the store, so it is reported and not raised."""
    by_slot: dict[Slot, WantedRoute] = {}
    problems = []
    for new in routes:
        first = by_slot.setdefault(new.slot, new)
        if first != new:
            problems.append(_route_conflict(new, first))
    return dict.fromkeys(by_slot.values()), problems


def _order(route: WantedRoute) -> int:
    """Covers first, and what a gateway may be reached by before what goes by a gateway."""
    return 0 if route.kind != "unicast" else 1 if route.gateway is None else 2


def _missing(name: str) -> Problem:
    return Problem(
        "link-missing",
        name,
        f"{name}: there is no link of that name, so its addresses and routes are not set; tulle makes its "
        f"own links again by itself, any other must be brought back (ip link show {name})",
    )


def _foreign_link(name: str, why: str) -> Problem:
    return Problem(
        "foreign-link",
        name,
        f"{name}: this link {why}; it was left as it is. Remove it (ip link delete {name}) or choose another name",
    )


def _foreign_route(wanted: WantedRoute, foreign: str) -> Problem:
    return Problem(
        "foreign-route",
        str(wanted.destination),
        f"route {wanted.text}: not set, because another program has put {foreign} in its place. Remove that "
        f"one (ip route del) or choose a network that is free",
    )


def _route_conflict(new: WantedRoute, first: WantedRoute) -> Problem:
    return Problem(
        "route-conflict",
        str(new.destination),
        f"route {new.text}: not set, because {first.text} is wanted as well and came first; two nodes or "
        f"plugins claim this network (tulle leases shows them)",
    )
