"""What a backend may want of the kernel, and the hands that core lends it for that.

A party states the whole of its part; core compares it with what is there, changes the difference, and keeps it so.
Everything is ours: routes by their protocol number, links by their alias, and neighbours and FDB entries by lying on
such a link. Nothing else is changed or removed.
"""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface
from typing import Protocol

import msgspec

from tulle.contracts.report import Report
from tulle.net.prefix import Address, Prefix

ALIAS = "tulle"
"""Marks our links (`ip link show` prints it)."""

IP6_RT_PRIO_USER = 1024
"""The kernel stores metric 0 of an IPv6 route as this (linux/ipv6_route.h)."""

Interface = IPv4Interface | IPv6Interface
Slot = tuple[Prefix, int]
"""Destination and metric of a route."""


class WantedVxlan(msgspec.Struct, frozen=True):
    """A VXLAN device that core makes where it is missing. One of that name that differs in VNI, port, GBP or outer
    checksum is made anew, since the kernel cannot change these; the rest is changed on it."""

    vni: int
    port: int
    """UDP, of all peers."""
    link: str
    """The lower device."""
    local: Address
    """The outer source; its family is that of the outer packets."""
    mac: str
    """"aa:bb:cc:dd:ee:ff"."""
    gbp: bool = False
    """Group policy: a mark travels with each packet (draft-smith-vxlan-group-policy)."""
    learning: bool = False
    """Learn MACs from what arrives, beside the FDB entries that are wanted."""
    ttl: int = 0
    """Of the outer packets; 0: the kernel's default."""


class WantedLink(msgspec.Struct, frozen=True):
    """How a link is to be. A TUN is created by `tulle.kernel.tun`, a VXLAN device by the reconcile."""

    name: str
    mtu: int
    """Bytes."""
    txqueuelen: int | None
    """Packets; None: as it is."""
    up: bool = True
    alias: str = ALIAS
    vxlan: WantedVxlan | None = None
    tx_checksum: bool | None = None
    """Whether checksums of what it sends may be left to hardware below it (ethtool's "tx"); None: as it is."""


class WantedAddress(msgspec.Struct, frozen=True):
    """An address with its prefix length on a link. Where the link is one of `Wanted.links`, addresses that
    are not wanted are removed from it (link-local ones stay: the kernel makes them)."""

    link: str
    address: Interface


class WantedRoute(msgspec.Struct, frozen=True, cache_hash=True):
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


class WantedNeighbour(msgspec.Struct, frozen=True, cache_hash=True):
    """A permanent neighbour: which MAC an address on a link has, so that nobody has to be asked."""

    link: str
    address: Address
    mac: str
    """"aa:bb:cc:dd:ee:ff"."""

    @property
    def slot(self) -> tuple[str, Address]:
        return self.link, self.address

    @property
    def text(self) -> str:
        """As `ip neighbour` writes it."""
        return f"neighbour {self.address} dev {self.link} lladdr {self.mac}"


class WantedFdb(msgspec.Struct, frozen=True, cache_hash=True):
    """A permanent forwarding entry of a VXLAN device: to which outer address frames for a MAC go."""

    link: str
    mac: str
    destination: Address | None
    """None only in what was seen."""
    port: int = 0
    """0: the device's own."""
    vni: int = 0
    """0: the device's own."""

    @property
    def slot(self) -> tuple[str, str]:
        return self.link, self.mac

    @property
    def text(self) -> str:
        """As `bridge fdb` writes it."""
        words = [f"fdb {self.mac} dev {self.link}"]
        words += [
            f"{word} {value}" for word, value in (("dst", self.destination), ("port", self.port)) if value
        ]
        return " ".join(words + ([f"vni {self.vni}"] if self.vni else []))


class Wanted(msgspec.Struct, frozen=True):
    """All that one party wants, or all of them together: what is ours and not in it is removed. A slot is wanted once:
    of two neighbours for one address, or FDB entries for one MAC, the kernel keeps one."""

    links: tuple[WantedLink, ...] = ()
    addresses: tuple[WantedAddress, ...] = ()
    routes: tuple[WantedRoute, ...] = ()
    neighbours: tuple[WantedNeighbour, ...] = ()
    """On links of `links`: other permanent ones there are removed."""
    fdb: tuple[WantedFdb, ...] = ()
    """As `neighbours`."""
    partial: bool = False
    """The rest is not known yet: what is there and not in it is left, so that packets go on."""

    def link_names(self) -> tuple[str, ...]:
        """Every link that something here needs, each once."""
        names = {link.name for link in self.links}
        names |= {link.vxlan.link for link in self.links if link.vxlan is not None}
        names |= {one.link for one in self.addresses}
        names |= {one.link for one in self.routes if one.link is not None}
        names |= {one.link for one in self.neighbours} | {one.link for one in self.fdb}
        return tuple(sorted(names))


class VxlanFacts(msgspec.Struct, frozen=True):
    """How the kernel has a VXLAN device."""

    vni: int
    port: int
    index: int
    """Of the lower device, 0 for none."""
    local: Address | None
    gbp: bool
    learning: bool
    ttl: int
    zero_checksum6: bool
    """Outer UDP over IPv6 goes without a checksum, which RFC 8200 section 8.1 lets receivers throw away."""


class LinkFacts(msgspec.Struct, frozen=True):
    """What a backend may ask about a link."""

    name: str
    index: int
    mtu: int
    up: bool
    mac: str = ""
    """"" where it has none."""
    alias: str = ""
    vxlan: VxlanFacts | None = None
    """None where it is no VXLAN device."""


class Kernel(Protocol):
    """For a backend whose packets the kernel itself forwards. It needs no forwarder, and none is started for it."""

    async def want(self, wanted: Wanted) -> Report:
        """All that the backend wants from now on, in place of what it wanted. Returns when the kernel has it, or has
        refused: its problems are core's to show, and need not be repeated (the report has those of all parties).
        Raises OSError where the kernel cannot be asked."""
        ...

    async def link(self, name: str) -> LinkFacts | None:
        """A link of this node, whoever made it; allowed in `advertise` too."""
        ...
