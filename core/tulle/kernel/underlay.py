"""Which interface leads to the other nodes. Pure: `choose` decides from what `tulle.kernel.netlink` has read.

The order is flannel's: what --iface names (an interface or an address), what --iface-regex matches (addresses, then
names), the way to --iface-can-reach; the first that fits. Where none of them is given: the interface that has
--public-ip, else the one by which this node reaches the world.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address

import msgspec

from tulle.config.govalues import compile_regexp
from tulle.contracts.backend import Underlay
from tulle.net.prefix import Address, Family, Prefix

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
    """What the kernel would do with a packet to another machine."""

    index: int
    """Of the interface."""
    source: Address | None = None
    """The source address that it would take."""


class Surroundings(msgspec.Struct, frozen=True):
    """What was seen of this node's network."""

    links: tuple[LocalLink, ...]
    ways: Mapping[Family, WayOut] = {}
    """To the world."""
    reach: Mapping[Address, WayOut] = {}
    """To the addresses that were asked about, as far as there is a way out of this node."""


class NoUnderlay(ValueError):
    """No interface fits. The text says why each was refused and what the choices are."""


class _Candidate(msgspec.Struct, frozen=True):
    link: LocalLink
    because: str
    prefer: Address | None = None
    """Named by the user: this and no other of its family."""


class Wish(msgspec.Struct, frozen=True):
    """What the user says about the interface, the strongest first; nothing: whatever leads out."""

    ifaces: tuple[str, ...] = ()
    """Names of interfaces, or addresses that one has."""
    patterns: tuple[str, ...] = ()
    """Regular expressions that `compile_regexp` takes."""
    can_reach: tuple[Address, ...] = ()


def outside(seen: Surroundings, networks: Collection[Prefix]) -> Surroundings:
    """The same without addresses of the cluster's own networks: a pods' bridge is never the way to other nodes."""

    def inside(local: LocalAddress) -> bool:
        return any(local.address.version == one.version and local.address.ip in one for one in networks)

    links = tuple(
        msgspec.structs.replace(link, addresses=tuple(a for a in link.addresses if not inside(a)))
        for link in seen.links
    )
    return msgspec.structs.replace(seen, links=links)


def choose(
    wish: Wish, public: Mapping[Family, Address], needed: Collection[Family], seen: Surroundings
) -> Underlay:
    """The first candidate with an address of every family in `needed`; with nothing needed, of any family.

    `public` are --public-ip and --public-ipv6. Raises NoUnderlay."""
    refused: list[str] = []
    for candidate in _candidates(wish, public, needed, seen, refused):
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
                connected=_connected(candidate.link, addresses),
            )
        refused.append(f"{candidate.link.name} has no usable {_families(lacking)} address")
    raise NoUnderlay(_message(refused, seen))


def _candidates(
    wish: Wish,
    public: Mapping[Family, Address],
    needed: Collection[Family],
    seen: Surroundings,
    refused: list[str],
) -> Iterator[_Candidate]:
    """In flannel's order, which never goes on to the default route where the user has said anything."""
    if wish == Wish():
        yield from _with_public(public, seen)
        yield from _by_route(needed, seen, refused)
        return
    yield from _named(wish.ifaces, seen, refused)
    for pattern in wish.patterns:
        yield from _matching(pattern, seen, refused)
    yield from _reaching(wish.can_reach, seen, refused)


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


def _matching(pattern: str, seen: Surroundings, refused: list[str]) -> Iterator[_Candidate]:
    """Interfaces with an address that an --iface-regex is found in, then those with such a name."""
    compiled = compile_regexp(pattern)
    because = f"--iface-regex {pattern}"
    found = False
    others = [link for link in seen.links if not link.ours]
    for link in others:
        address = next((a.address.ip for a in _usable(link) if compiled.search(str(a.address.ip))), None)
        if address is not None:
            found = True
            yield _Candidate(link, f"{because} matches {address} of {link.name}", address)
    for link in others:
        if compiled.search(link.name):
            found = True
            yield _Candidate(link, f"{because} matches the name {link.name}")
    if not found:
        refused.append(f"no address and no name of an interface matches {pattern}")


def _reaching(addresses: Sequence[Address], seen: Surroundings, refused: list[str]) -> Iterator[_Candidate]:
    """The interface by which the kernel would reach each --iface-can-reach, with the source address it would take."""
    by_index = {link.index: link for link in seen.links}
    for address in addresses:
        way = seen.reach.get(address)
        link = by_index.get(way.index) if way is not None else None
        if way is None or link is None:
            refused.append(f"there is no way to {address}, or it is this node's own")
        elif link.ours:
            refused.append(f"the way to {address} is {link.name}, which tulle has made itself")
        else:
            yield _Candidate(link, f"--iface-can-reach {address} is reached by {link.name}", way.source)


def _with_public(public: Mapping[Family, Address], seen: Surroundings) -> Iterator[_Candidate]:
    """The interface that has --public-ip; behind a NAT there is none. A loopback carries an address for others to reach
    it by any interface, and is not the way to them itself."""
    for family, address in sorted(public.items()):
        for link in seen.links:
            addresses = [local.address.ip for local in link.addresses]
            if address in addresses and not link.ours and not any(one.is_loopback for one in addresses):
                name = {4: "public-ip", 6: "public-ipv6"}[family]
                yield _Candidate(link, f"--{name} {address} is an address of {link.name}", address)


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


def _connected(link: LocalLink, families: Collection[Family]) -> tuple[Prefix, ...]:
    """A single address (/32, /128) connects nobody; nor does a link-local one, which no lease names."""
    found = {
        local.address.network
        for local in _usable(link)
        if local.address.version in families and local.address.network.num_addresses > 1
    }
    return tuple(sorted(found, key=lambda one: (one.version, one)))


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
    reasons = "; ".join(dict.fromkeys(refused))
    return f"no interface for the traffic to the other nodes: {reasons}; {advice}"
