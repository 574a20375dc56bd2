"""Which interface leads to the other nodes. Pure: `choose` decides from what `tulle.kernel.netlink` has read.

The order is flannel's: what --iface names (an interface or an address, the first that fits), else the interface
by which this node reaches the world. Other ways to say it are other lists of candidates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address

import msgspec

from tulle.contracts.backend import Underlay
from tulle.net.prefix import Address, Family

FAMILIES: tuple[Family, Family] = (4, 6)

# Address flags and scopes (linux/if_addr.h, linux/rtnetlink.h).
IFA_F_SECONDARY = 0x01
"""IPv6: a temporary address (RFC 8981), gone in a day. IPv4: not the first of its subnet."""
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
UNFIT_IN_IPV6 = IFA_F_SECONDARY | IFA_F_DADFAILED | IFA_F_DEPRECATED
RT_SCOPE_UNIVERSE = 0


class LocalAddress(msgspec.Struct, frozen=True):
    """An address of this node."""

    address: IPv4Interface | IPv6Interface
    scope: int = RT_SCOPE_UNIVERSE
    flags: int = 0


class LocalLink(msgspec.Struct, frozen=True):
    """An interface of this node with its addresses, in the kernel's order."""

    name: str
    index: int
    mtu: int
    up: bool
    addresses: tuple[LocalAddress, ...] = ()
    ours: bool = False
    """Made by tulle: never the way to other nodes."""


class WayOut(msgspec.Struct, frozen=True):
    """What the kernel would do with a packet to the world."""

    index: int
    """Of the interface."""
    source: Address | None = None
    """The source address that it would take."""


class Surroundings(msgspec.Struct, frozen=True):
    """What was seen of this node's network."""

    links: tuple[LocalLink, ...]
    ways: Mapping[Family, WayOut] = {}


class NoUnderlay(ValueError):
    """No interface fits. The text says why each was refused and what the choices are."""


class _Candidate(msgspec.Struct, frozen=True):
    link: LocalLink
    because: str
    prefer: Address | None = None
    """Named by the user: this and no other of its family."""


def choose(
    ifaces: Sequence[str],
    public: Mapping[Family, Address],
    needed: Collection[Family],
    seen: Surroundings,
) -> Underlay:
    """The first candidate with an address of every family in `needed`; with nothing needed, of any family.

    `public` are --public-ip and --public-ipv6. Raises NoUnderlay."""
    refused: list[str] = []
    candidates = _named(ifaces, seen, refused) if ifaces else _by_route(needed, seen, refused)
    for candidate in candidates:
        addresses = _addresses(candidate, needed, seen)
        lacking = [family for family in needed if family not in addresses]
        if addresses and not lacking:
            return Underlay(
                link=candidate.link.name,
                index=candidate.link.index,
                mtu=candidate.link.mtu,
                addresses=addresses,
                public={family: public.get(family, address) for family, address in addresses.items()},
                chosen_because=candidate.because,
            )
        refused.append(f"{candidate.link.name} has no usable {_families(lacking)} address")
    raise NoUnderlay(_message(refused, seen))


def _named(ifaces: Sequence[str], seen: Surroundings, refused: list[str]) -> Iterator[_Candidate]:
    """Each --iface, in order: the name of an interface, or an address that an interface has."""
    for word in ifaces:
        because = f"--iface {word}"
        named = next((link for link in seen.links if link.name == word), None)
        if named is not None:
            yield _Candidate(named, because)
            continue
        address = _parsed(word)
        having = [link for link in seen.links if any(a.address.ip == address for a in link.addresses)]
        yield from (
            _Candidate(link, f"{because} is an address of {link.name}", address) for link in having[:1]
        )
        if not having:
            refused.append(
                f"no interface is called {word}" if address is None else f"no interface has {word}"
            )


def _by_route(needed: Collection[Family], seen: Surroundings, refused: list[str]) -> Iterator[_Candidate]:
    """The ways out, needed families first; without any way out the only interface that has an address."""
    by_index = {link.index: link for link in seen.links}
    offered = set()
    for family in sorted(seen.ways, key=lambda family: (family not in needed, family)):
        link = by_index.get(seen.ways[family].index)
        if link is not None and link.index not in offered:
            offered.add(link.index)
            yield _Candidate(link, f"the way out for IPv{family}")
    if not seen.ways:
        addressed = [link for link in seen.links if link.up and not link.ours and any(_usable(link))]
        if len(addressed) == 1:
            yield _Candidate(
                addressed[0], "the only interface with an address, and there is no default route"
            )
        refused.append("there is no default route")


def _usable(link: LocalLink) -> Iterator[LocalAddress]:
    for local in link.addresses:
        ip = local.address.ip
        if not (
            ip.is_loopback or ip.is_multicast or ip.is_unspecified or (ip.version == 6 and ip.is_link_local)
        ):
            yield local


def _addresses(
    candidate: _Candidate, needed: Collection[Family], seen: Surroundings
) -> Mapping[Family, Address]:
    """The best address of each family that the cluster uses."""
    best: dict[Family, Address] = {}
    for family in FAMILIES:
        usable = [a for a in _usable(candidate.link) if a.address.version == family]
        if usable and (not needed or family in needed):
            way = seen.ways.get(family)
            source = way.source if way is not None and way.index == candidate.link.index else None
            best[family] = min(usable, key=lambda a: _rank(a, candidate.prefer, source)).address.ip
    return best


def _rank(local: LocalAddress, prefer: Address | None, source: Address | None) -> tuple[bool, ...]:
    """Smaller is better; what the user named beats all. An address that will soon be gone comes after the
    kernel's own choice of source, which with IPv6 privacy extensions is such a one."""
    ip = local.address.ip
    unfit = local.address.version == 6 and bool(local.flags & UNFIT_IN_IPV6)
    return ip != prefer, unfit, local.scope != RT_SCOPE_UNIVERSE, ip != source


def _parsed(word: str) -> Address | None:
    try:
        return ip_address(word)
    except ValueError:
        return None


def _families(families: Iterable[Family]) -> str:
    return " and ".join(f"IPv{family}" for family in sorted(families)) or "IPv4 or IPv6"


def _message(refused: Sequence[str], seen: Surroundings) -> str:
    choices = [
        f"{link.name} ({', '.join(str(a.address.ip) for a in _usable(link))})"
        for link in seen.links
        if not link.ours and any(_usable(link))
    ]
    if choices:
        advice = f"choose one of these with --iface: {', '.join(choices)}"
    else:
        advice = (
            "no interface has an address by which others could reach it: configure one first (ip address add)"
        )
    return f"no interface for the traffic to the other nodes: {'; '.join(refused)}; {advice}"
