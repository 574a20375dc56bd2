"""Links, addresses and routes as they are wanted and as they were seen, and the difference. Pure.

`diff` gives the actions in the order in which the kernel can take them: links first, then addresses (a
route's source must exist), then routes, the unreachable ones first so that no packet escapes in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal

import msgspec

from tulle.contracts.backend import Problem
from tulle.net.prefix import Address, Prefix

RTPROT_TULLE = 116
"""Marks our routes ("t" in ASCII): unused in iproute2's rt_protos, linux/rtnetlink.h and FRR (186 to 199).
84 ("T") is not free, it is OVN's since Linux 6.15, and OVN removes what it finds there. Never change it: it is
how an older tulled's routes are recognised."""

ALIAS = "tulle"
"""Marks our links (`ip link show` prints it)."""

COVER_METRIC = 1_000_000
"""Of the unreachable routes that cover the cluster networks: worse than any metric in everyday use."""

IP6_RT_PRIO_USER = 1024
"""The kernel stores metric 0 of an IPv6 route as this (linux/ipv6_route.h)."""

Interface = IPv4Interface | IPv6Interface
Slot = tuple[Prefix, int]
"""Destination and metric of a route."""


class WantedLink(msgspec.Struct, frozen=True):
    """How a link that exists is to be. Nothing here creates links: a TUN is created by `tulle.kernel.tun`."""

    name: str
    mtu: int
    """Bytes."""
    txqueuelen: int
    """Packets."""
    up: bool = True
    alias: str = ALIAS


class WantedAddress(msgspec.Struct, frozen=True):
    """An address with its prefix length on a link. Where the link is one of `Wanted.links`, addresses that
    are not wanted are removed from it (link-local ones stay: the kernel makes them)."""

    link: str
    address: Interface


class WantedRoute(msgspec.Struct, frozen=True):
    """A route of the main table. Raises ValueError for one that the kernel could not have."""

    destination: Prefix
    link: str | None
    """None for any kind but "unicast"."""
    kind: str
    """"unicast" or "unreachable". In what was seen also another word of rtnetlink(7), such as "blackhole"."""
    metric: int
    """0 for IPv6 is what the kernel makes of it, 1024."""
    gateway: Address | None = None
    onlink: bool = False
    source: Address | None = None

    def __post_init__(self) -> None:
        if (self.kind == "unicast") != (self.link is not None):
            raise ValueError(f"route {self.text}: a unicast route needs a link, any other has none")
        for address in (self.gateway, self.source):
            if address is not None and (self.link is None or address.version != self.destination.version):
                raise ValueError(f"route {self.text}: {address} does not fit it")
        if self.destination.version == 6 and self.metric == 0:
            msgspec.structs.force_setattr(self, "metric", IP6_RT_PRIO_USER)

    @property
    def slot(self) -> Slot:
        """What is unique in a table: the kernel refuses a second route with the same."""
        return self.destination, self.metric

    @property
    def text(self) -> str:
        """As `ip route` writes it."""
        words = [str(self.destination)] if self.kind == "unicast" else [self.kind, str(self.destination)]
        for word, value in (("via", self.gateway), ("dev", self.link), ("src", self.source)):
            if value is not None:
                words += [word, str(value)]
        words += ["metric", str(self.metric)] if self.metric else []
        words += ["onlink"] if self.onlink else []
        return " ".join(words)


def cover(network: Prefix) -> WantedRoute:
    """The unreachable route that keeps a cluster network's packets from leaving in clear when its link is
    lost."""
    return WantedRoute(network, None, "unreachable", COVER_METRIC)


class Wanted(msgspec.Struct, frozen=True):
    """All that tulle wants of the kernel on this node: routes of ours that are not in it are removed."""

    links: tuple[WantedLink, ...] = ()
    addresses: tuple[WantedAddress, ...] = ()
    routes: tuple[WantedRoute, ...] = ()

    def link_names(self) -> tuple[str, ...]:
        """Every link that something here needs, each once."""
        names = [link.name for link in self.links] + [address.link for address in self.addresses]
        names += [route.link for route in self.routes if route.link is not None]
        return tuple(dict.fromkeys(names))


class SeenLink(msgspec.Struct, frozen=True):
    """A link as the kernel has it."""

    name: str
    index: int
    mtu: int
    txqueuelen: int
    up: bool
    alias: str = ""


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


class SetLink(msgspec.Struct, frozen=True):
    """Change one setting of a link."""

    name: str
    index: int
    setting: Literal["alias", "mtu", "txqueuelen", "up"]
    value: str | int | bool
    was: str | int | bool

    @property
    def subject(self) -> str:
        return self.name

    @property
    def line(self) -> str:
        if self.setting == "up":
            return f"{self.name}: link was {_up(self.was)}, set {_up(self.value)}"
        if self.setting == "alias":
            return f'{self.name}: marked as ours (alias "{self.value}")'
        return f"{self.name}: {self.setting} was {self.was}, set to {self.value}"


class AddAddress(msgspec.Struct, frozen=True):
    address: WantedAddress
    index: int

    @property
    def subject(self) -> str:
        return self.address.link

    @property
    def line(self) -> str:
        return f"{self.address.link}: address {self.address.address} was missing, added"


class RemoveAddress(msgspec.Struct, frozen=True):
    address: WantedAddress
    index: int

    @property
    def subject(self) -> str:
        return self.address.link

    @property
    def line(self) -> str:
        return f"{self.address.link}: address {self.address.address} is not wanted, removed"


class AddRoute(msgspec.Struct, frozen=True):
    route: WantedRoute
    index: int
    """Of its link, 0 for none."""

    @property
    def subject(self) -> str:
        return str(self.route.destination)

    @property
    def line(self) -> str:
        return f"route {self.route.text}: was missing, added"


class RemoveRoute(msgspec.Struct, frozen=True):
    route: WantedRoute

    @property
    def subject(self) -> str:
        return str(self.route.destination)

    @property
    def line(self) -> str:
        return f"route {self.route.text}: is not wanted, removed"


Action = SetLink | AddAddress | RemoveAddress | AddRoute | RemoveRoute


class Plan(msgspec.Struct, frozen=True):
    """What is to be done, in order, and what cannot be done now."""

    actions: tuple[Action, ...] = ()
    problems: tuple[Problem, ...] = ()


def diff(wanted: Wanted, seen: Seen) -> Plan:
    """The way from `seen` to `wanted`. Nothing that is not marked as ours is changed or removed: a link with
    another alias and a route of another protocol are problems, and what stands on them is left out."""
    problems = [_missing(name) for name in wanted.link_names() if name not in seen.links]
    strangers = {
        w.name for w in wanted.links if w.name in seen.links and not _may_mark(w, seen.links[w.name])
    }
    problems += [_foreign_link(seen.links[name]) for name in sorted(strangers)]
    usable = {name: link for name, link in seen.links.items() if name not in strangers}

    actions: list[Action] = []
    for link in wanted.links:
        if link.name in usable:
            actions += _link_actions(link, usable[link.name])
    actions += _address_actions(wanted, seen, usable)
    routes, in_the_way = _route_actions(wanted, seen, usable)
    return Plan((*actions, *routes), (*problems, *in_the_way))


def _may_mark(wanted: WantedLink, seen: SeenLink) -> bool:
    return seen.alias in ("", wanted.alias)


def _link_actions(wanted: WantedLink, seen: SeenLink) -> Iterable[Action]:
    """One action for each setting that differs; up comes last, so that a link starts with its final MTU."""
    pairs: tuple[tuple[Literal["alias", "mtu", "txqueuelen", "up"], str | int, str | int], ...] = (
        ("alias", wanted.alias, seen.alias),
        ("mtu", wanted.mtu, seen.mtu),
        ("txqueuelen", wanted.txqueuelen, seen.txqueuelen),
        ("up", wanted.up, seen.up),
    )
    return [SetLink(seen.name, seen.index, key, want, was) for key, want, was in pairs if want != was]


def _address_actions(wanted: Wanted, seen: Seen, usable: Mapping[str, SeenLink]) -> Iterable[Action]:
    """Removals first: IPv6 refuses an address that is there with another prefix length."""
    want, have = set(wanted.addresses), set(seen.addresses)
    ours = {w.name for w in wanted.links if w.name in usable and usable[w.name].alias == w.alias}
    stale = [a for a in seen.addresses if a not in want and a.link in ours and not a.address.is_link_local]
    missing = [a for a in dict.fromkeys(wanted.addresses) if a not in have and a.link in usable]
    removals: list[Action] = [RemoveAddress(a, usable[a.link].index) for a in stale]
    return removals + [AddAddress(a, usable[a.link].index) for a in missing]


def _route_actions(
    wanted: Wanted, seen: Seen, usable: Mapping[str, SeenLink]
) -> tuple[Iterable[Action], Iterable[Problem]]:
    """A changed route is removed and added again, not replaced: the kernel's replace takes the first route of
    that slot, which can be another program's."""
    want, problems = _one_a_slot(wanted.routes)
    have = set(seen.routes)
    missing = [r for r in want if r not in have and (r.link is None or r.link in usable)]
    problems += [_foreign_route(r, seen.foreign[r.slot]) for r in missing if r.slot in seen.foreign]
    stale: dict[Slot, list[WantedRoute]] = {}
    for old in seen.routes:
        if old not in want:
            stale.setdefault(old.slot, []).append(old)

    actions: list[Action] = []
    for new in sorted((r for r in missing if r.slot not in seen.foreign), key=_order):
        actions += [RemoveRoute(old) for old in stale.pop(new.slot, ())]
        actions.append(AddRoute(new, usable[new.link].index if new.link is not None else 0))
    left = [old for in_slot in stale.values() for old in in_slot]
    return actions + [RemoveRoute(old) for old in sorted(left, key=_order, reverse=True)], problems


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


def _up(value: object) -> str:
    return "up" if value else "down"


def _missing(name: str) -> Problem:
    return Problem(
        "link-missing",
        name,
        f"{name}: there is no link of that name, so its addresses and routes are not set; tulle makes its "
        f"own links again by itself, any other must be brought back (ip link show {name})",
    )


def _foreign_link(link: SeenLink) -> Problem:
    return Problem(
        "foreign-link",
        link.name,
        f'{link.name}: this link is marked "{link.alias}" and so belongs to something else; it was left as '
        f"it is. Remove it (ip link delete {link.name}) or choose another name",
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
