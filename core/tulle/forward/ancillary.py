"""What the kernel tells with a datagram beside its bytes, and what we tell it: train length, our own address, DS byte.

A socket with `Listen.tells` gives the last two with each datagram (ip(7), ipv6(7)); every one gives the first (udp(7)).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from socket import (
    IP_TOS,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    IPV6_TCLASS,
)
from typing import NamedTuple

from tulle.net.trains import SOL_UDP, UDP_GRO

IP_PKTINFO = 8  # linux/in.h; the socket module lacks it in Python 3.11
INT = struct.Struct("=i")
PKTINFO = struct.Struct("=i4s4s")
"""struct in_pktinfo: interface, our address for that packet, the header's destination."""
PKTINFO6 = struct.Struct("=16si")
"""struct in6_pktinfo: address, interface."""
REMEMBERED = 1024
"""Different sets of messages; more are read anew. Peers send a few, and who floods must not fill the memory."""

ControlMessages = Sequence[tuple[int, int, bytes]]
"""As recvmsg and sendmsg have them: level, type, data."""


class Told(NamedTuple):
    """What came with a datagram. 0 and b"": nothing was said."""

    segment_bytes: int = 0
    """The datagrams of a train have this length; 0: it is one datagram."""
    local: bytes = b""
    """Our address that it was sent to; none for link-local ones, which say nothing without an interface."""
    ds: int = 0


NOTHING = Told()


class AncillaryReader:
    """Reads each set of messages once, and looks it up when it comes again."""

    def __init__(self) -> None:
        self._read: dict[tuple[tuple[int, int, bytes], ...], Told] = {}

    def read(self, messages: ControlMessages) -> Told:
        key = tuple(messages)
        told = self._read.get(key)
        if told is None:
            if len(self._read) >= REMEMBERED:
                self._read.clear()
            told = self._read[key] = parse(messages)
        return told


def parse(messages: ControlMessages) -> Told:
    """The slow way. What the kernel cut off (MSG_CTRUNC) is as if it had not been said."""
    size, local, ds = NOTHING
    for level, kind, data in messages:
        if level == SOL_UDP and kind == UDP_GRO and len(data) >= INT.size:
            size = INT.unpack_from(data)[0]
        elif level == IPPROTO_IP and kind == IP_PKTINFO and len(data) >= PKTINFO.size:
            local = PKTINFO.unpack_from(data)[1]
        elif level == IPPROTO_IPV6 and kind == IPV6_PKTINFO and len(data) >= PKTINFO6.size:
            local = PKTINFO6.unpack_from(data)[0]
        elif level == IPPROTO_IP and kind == IP_TOS and data:
            ds = data[0]
        elif level == IPPROTO_IPV6 and kind == IPV6_TCLASS and len(data) >= INT.size:
            ds = INT.unpack_from(data)[0] & 0xFF
    return Told(max(0, size), b"" if is_link_local(local) else local, ds)


def to_send(version: int, local: bytes, ds: int) -> ControlMessages:
    """The messages that make a datagram leave from `local` with that DS byte; none for b"" and 0. `version`: of IP."""
    found: list[tuple[int, int, bytes]] = []
    if version == 4:
        if local:
            found.append((IPPROTO_IP, IP_PKTINFO, PKTINFO.pack(0, local, bytes(4))))
        if ds:
            found.append((IPPROTO_IP, IP_TOS, INT.pack(ds)))
        return found
    if local:
        found.append((IPPROTO_IPV6, IPV6_PKTINFO, PKTINFO6.pack(local, 0)))
    if ds:
        found.append((IPPROTO_IPV6, IPV6_TCLASS, INT.pack(ds)))
    return found


def is_link_local(address: bytes) -> bool:
    """fe80::/10 (RFC 4291 section 2.5.6)."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80
