"""Routes, neighbours and FDB entries as rtnetlink bytes and back (rtnetlink(7), linux/rtnetlink.h, linux/neighbour.h).

These come by the thousand: packing and unpacking them here costs a few microseconds each, pyroute2 needs 400. Pure.
All numbers are in the machine's byte order, but for a UDP port.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6

import msgspec

from tulle.contracts.kernel import WantedFdb, WantedNeighbour, WantedRoute
from tulle.net.prefix import Address, Family, Prefix

RTPROT_TULLE = 116
"""Marks our routes ("t" in ASCII): unused in iproute2's rt_protos, linux/rtnetlink.h and FRR (186 to 199).
84 ("T") is not free, it is OVN's since Linux 6.15, and OVN removes what it finds there. Never change it: it is
how an older tulled's routes are recognised."""

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port id."""
RTMSG = struct.Struct("=8BI")
"""struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type; flags."""
NDMSG = struct.Struct("=BxxxiHBB")
"""struct ndmsg: family, ifindex, state, flags, type."""
ATTRIBUTE = struct.Struct("=HH")
"""struct rtattr: length with these 4 bytes, type. What follows is padded to 4 bytes."""
NUMBER = struct.Struct("=I")
CODE = struct.Struct("=i")

# linux/netlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x4, 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLA_TYPE_MASK = 0x3FFF

# linux/rtnetlink.h
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
RT_TABLE_MAIN = 254
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
RTNH_F_ONLINK = 4

KINDS = {1: "unicast", 2: "local", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
"""RTN_* by number."""
KIND_NUMBERS = {word: number for number, word in KINDS.items()}

# linux/neighbour.h
NDA_DST, NDA_LLADDR, NDA_PORT, NDA_VNI, NDA_IFINDEX = 1, 2, 6, 7, 8
NUD_PERMANENT = 0x80
NTF_SELF = 0x02

AF_BRIDGE = 7  # linux/socket.h
NUMBERS: dict[Family, int] = {4: AF_INET, 6: AF_INET6}
MAC_BYTES = 6  # ETH_ALEN
IPV4_BYTES = 4


class Message(msgspec.Struct, frozen=True):
    """One message without its header's length, sequence number and port."""

    type: int
    flags: int
    body: bytes

    def packed(self, sequence: int, more_flags: int = 0) -> bytes:
        size = HEADER.size + len(self.body)
        return HEADER.pack(size, self.type, self.flags | more_flags, sequence, 0) + self.body


# --- what we send ---------------------------------------------------------------------------------------------------


def add_route(route: WantedRoute, index: int, *, replaces: bool = False) -> Message:
    """`index`: of its link, 0 for none. EEXIST where its slot is taken; with `replaces` it takes that over."""
    scope = RT_SCOPE_LINK if route.link is not None and route.gateway is None else RT_SCOPE_UNIVERSE
    flags = RTNH_F_ONLINK if route.onlink else 0
    body = _route(route, index, scope, flags, route.source, RTPROT_TULLE)
    how = NLM_F_REPLACE if replaces else NLM_F_EXCL
    return Message(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | how, body)


def remove_route(route: WantedRoute, protocol: int = RTPROT_TULLE) -> Message:
    """Names protocol and type, so that the kernel takes nothing but that route (ip-route(8))."""
    return Message(RTM_DELROUTE, NLM_F_REQUEST, _route(route, 0, RT_SCOPE_NOWHERE, 0, None, protocol))


def _route(
    route: WantedRoute, index: int, scope: int, flags: int, source: Address | None, protocol: int
) -> bytes:
    destination = route.destination
    head = RTMSG.pack(
        *(NUMBERS[destination.version], destination.prefixlen, 0, 0),
        *(RT_TABLE_MAIN, protocol, scope, KIND_NUMBERS.get(route.kind, 0)),
        flags,
    )
    parts = [head, _attribute(RTA_DST, destination.network_address.packed)]
    parts.append(_attribute(RTA_PRIORITY, NUMBER.pack(route.metric)))
    if index:
        parts.append(_attribute(RTA_OIF, NUMBER.pack(index)))
    if route.gateway is not None:
        parts.append(_attribute(RTA_GATEWAY, route.gateway.packed))
    if source is not None:
        parts.append(_attribute(RTA_PREFSRC, source.packed))
    return b"".join(parts)


def set_neighbour(one: WantedNeighbour, index: int) -> Message:
    """Takes the place of what is there for that address."""
    body = _neighbour(NUMBERS[one.address.version], index, 0, one.address.packed, mac_bytes(one.mac))
    return Message(RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, body)


def remove_neighbour(one: WantedNeighbour, index: int) -> Message:
    body = _neighbour(NUMBERS[one.address.version], index, 0, one.address.packed, b"")
    return Message(RTM_DELNEIGH, NLM_F_REQUEST, body)


def set_fdb(one: WantedFdb, index: int) -> Message:
    """Takes the place of what is there for that MAC."""
    return Message(RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, _fdb(one, index))


def remove_fdb(one: WantedFdb, index: int) -> Message:
    """That destination of the MAC and no other."""
    return Message(RTM_DELNEIGH, NLM_F_REQUEST, _fdb(one, index))


def _fdb(one: WantedFdb, index: int) -> bytes:
    destination = one.destination.packed if one.destination is not None else b""
    body = _neighbour(AF_BRIDGE, index, NTF_SELF, destination, mac_bytes(one.mac))
    if one.port:
        body += _attribute(NDA_PORT, one.port.to_bytes(2, "big"))
    if one.vni:
        body += _attribute(NDA_VNI, NUMBER.pack(one.vni))
    return body


def _neighbour(family: int, index: int, flags: int, destination: bytes, mac: bytes) -> bytes:
    body = NDMSG.pack(family, index, NUD_PERMANENT, flags, 0)
    if destination:
        body += _attribute(NDA_DST, destination)
    return body + _attribute(NDA_LLADDR, mac) if mac else body


def dump_routes(family: Family) -> Message:
    """Those of the main table with our protocol; the kernel leaves out the others (it is asked strictly)."""
    body = RTMSG.pack(NUMBERS[family], 0, 0, 0, RT_TABLE_MAIN, RTPROT_TULLE, 0, 0, 0)
    return Message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, body)


def dump_unnamed_routes(family: Family, index: int) -> Message:
    """Those of the main table on one link whose maker named no protocol: a person, or flannel."""
    body = RTMSG.pack(NUMBERS[family], 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, 0, 0)
    body += _attribute(RTA_OIF, NUMBER.pack(index))
    return Message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, body)


def dump_neighbours(family: Family, index: int) -> Message:
    """Of one link."""
    body = NDMSG.pack(NUMBERS[family], 0, 0, 0, 0) + _attribute(NDA_IFINDEX, NUMBER.pack(index))
    return Message(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, body)


def dump_fdb(index: int) -> Message:
    """Of one link."""
    return Message(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, NDMSG.pack(AF_BRIDGE, index, 0, 0, 0))


def _attribute(kind: int, value: bytes) -> bytes:
    size = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def mac_bytes(text: str) -> bytes:
    """Raises ValueError for what is no MAC."""
    found = bytes.fromhex(text.replace(":", ""))
    if len(found) != MAC_BYTES:
        raise ValueError(f"{text!r} is no MAC address: give six bytes, such as 02:00:00:00:00:01")
    return found


# --- what we get ----------------------------------------------------------------------------------------------------


class Answer(msgspec.Struct, frozen=True):
    """One message that the kernel sent."""

    type: int
    flags: int
    sequence: int
    body: bytes

    @property
    def code(self) -> int:
        """Of an NLMSG_ERROR: 0, or the errno. Of an NLMSG_DONE that carries one, too."""
        return -CODE.unpack_from(self.body)[0] if len(self.body) >= CODE.size else 0


def answers(buffer: bytes) -> Iterator[Answer]:
    """The messages of one datagram."""
    offset = 0
    while offset + HEADER.size <= len(buffer):
        size, kind, flags, sequence, _ = HEADER.unpack_from(buffer, offset)
        if size < HEADER.size:
            return
        yield Answer(kind, flags, sequence, buffer[offset + HEADER.size : offset + size])
        offset += size + (-size % 4)


def attributes(body: bytes, offset: int) -> dict[int, bytes]:
    """By type; of several of one type the last."""
    found = {}
    end = len(body)
    while offset + ATTRIBUTE.size <= end:
        size, kind = ATTRIBUTE.unpack_from(body, offset)
        if size < ATTRIBUTE.size:
            break
        found[kind & NLA_TYPE_MASK] = body[offset + ATTRIBUTE.size : offset + size]
        offset += size + (-size % 4)
    return found


class Reader:
    """Makes our structs of what the kernel dumps. Keeps those of the last dumps: the same bytes are the same struct,
    so that comparing thousands that did not change costs little."""

    def __init__(self, link_name: Callable[[int], str]) -> None:
        self._link_name = link_name
        self._routes: dict[object, WantedRoute] = {}
        self._neighbours: dict[object, WantedNeighbour] = {}
        self._fdb: dict[object, WantedFdb] = {}

    def routes(self, family: Family, bodies: list[bytes]) -> list[WantedRoute]:
        """Without IPv6 the kernel answers an IPv6 dump with all families it knows: those are left out."""
        number, known, found = NUMBERS[family], self._routes, {}
        names: dict[int, str] = {}
        for body in bodies:
            if body[0] != number:
                continue
            parts = attributes(body, RTMSG.size)
            oif = parts.get(RTA_OIF, b"")
            index = NUMBER.unpack(oif)[0] if oif else 0
            if index not in names:
                names[index] = self._link_name(index) if index else ""
            key = (body[: RTMSG.size], names[index], *(parts.get(one) for one in _ROUTE_PARTS))
            found[key] = known.get(key) or _seen_route(body, parts, names[index])
        self._routes = {key: one for key, one in known.items() if key[0][0] != number} | found  # type: ignore[index]
        return list(found.values())

    def unnamed_routes(self, family: Family, bodies: list[bytes], link: str) -> list[WantedRoute]:
        """An answer to `dump_unnamed_routes`."""
        mine = [one for one in bodies if one[0] == NUMBERS[family] and one[5] == RTPROT_BOOT]
        return [_seen_route(one, attributes(one, RTMSG.size), link) for one in mine]

    def neighbours(self, link: str, bodies: list[bytes]) -> list[WantedNeighbour]:
        """The permanent ones."""
        known, found = self._neighbours, []
        for body in bodies:
            if not NDMSG.unpack_from(body)[2] & NUD_PERMANENT:
                continue
            parts = attributes(body, NDMSG.size)
            address, mac = parts.get(NDA_DST), parts.get(NDA_LLADDR)
            if address is None or mac is None:
                continue
            key = (link, address, mac)
            one = known.get(key)
            if one is None:
                one = known[key] = WantedNeighbour(link, _address(address), mac_text(mac))
            found.append(one)
        return found

    def fdb(self, link: str, bodies: list[bytes]) -> list[WantedFdb]:
        """The permanent ones of the device itself."""
        known, found = self._fdb, []
        for body in bodies:
            _, _, state, flags, _ = NDMSG.unpack_from(body)
            if not state & NUD_PERMANENT or not flags & NTF_SELF:
                continue
            parts = attributes(body, NDMSG.size)
            mac = parts.get(NDA_LLADDR)
            if mac is None:
                continue
            key = (link, mac, parts.get(NDA_DST), parts.get(NDA_PORT), parts.get(NDA_VNI))
            one = known.get(key)
            if one is None:
                one = known[key] = _seen_fdb(link, mac, parts)
            found.append(one)
        return found

    def forget(self, keep: int) -> None:
        """Start anew where much more is remembered than the `keep` entries that there are."""
        for known in (self._neighbours, self._fdb):
            if len(known) > 2 * keep + 1000:
                known.clear()


_ROUTE_PARTS = (RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC)


def _seen_route(body: bytes, parts: Mapping[int, bytes], link: str) -> WantedRoute:
    """A unicast route without one device (several next hops) is "multipath"."""
    family, length, _, _, _, _, _, kind_number, flags = RTMSG.unpack_from(body)
    destination = _prefix(family, parts.get(RTA_DST), length)
    metric = NUMBER.unpack(parts[RTA_PRIORITY])[0] if RTA_PRIORITY in parts else 0
    kind = KINDS.get(kind_number, str(kind_number))
    if kind != "unicast" or not link:
        return WantedRoute(destination, None, "multipath" if kind == "unicast" else kind, metric)
    gateway, source = parts.get(RTA_GATEWAY), parts.get(RTA_PREFSRC)
    return WantedRoute(
        destination,
        link,
        kind,
        metric,
        gateway=_address(gateway) if gateway else None,
        onlink=bool(flags & RTNH_F_ONLINK),
        source=_address(source) if source else None,
    )


def _seen_fdb(link: str, mac: bytes, parts: Mapping[int, bytes]) -> WantedFdb:
    destination, port, vni = (parts.get(one) for one in (NDA_DST, NDA_PORT, NDA_VNI))
    return WantedFdb(
        link,
        mac_text(mac),
        _address(destination) if destination else None,
        int.from_bytes(port, "big") if port else 0,
        NUMBER.unpack(vni)[0] if vni else 0,
    )


def _prefix(family: int, address: bytes | None, length: int) -> Prefix:
    """A default route carries no RTA_DST."""
    if family == AF_INET:
        return IPv4Network((address or bytes(4), length))
    return IPv6Network((address or bytes(16), length))


def _address(packed: bytes) -> Address:
    return IPv4Address(packed) if len(packed) == IPV4_BYTES else IPv6Address(packed)


def mac_text(mac: bytes) -> str:
    return mac.hex(":")
