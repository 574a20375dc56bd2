"""What the data path must know of an inner packet: is it whole, from where to where, what does it carry.

`addresses` and `destination` run once per packet; `transport` only where a packet is split or answered. A
packet is any buffer of bytes; one that is not exactly one IPv4 or IPv6 packet (cut short, or with bytes after
its end) gives None.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

Buffer = bytes | bytearray | memoryview

IPV4_HEADER_BYTES = 20  # without options: RFC 791 section 3.1
IPV4_MIN_IHL = 5  # in words of 4 bytes: RFC 791 section 3.1
IPV4_MORE_FRAGMENTS = 0x2000  # of the word at byte 6: RFC 791 section 3.1
IPV4_FRAGMENT_OFFSET = 0x1FFF  # of the same word, in units of 8 bytes
IPV6_HEADER_BYTES = 40  # RFC 8200 section 3

# Protocol numbers, the same in IPv4's Protocol and IPv6's Next Header (IANA "protocol-numbers").
ICMP = 1
TCP = 6
UDP = 17
ICMPV6 = 58

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60  # RFC 8200 section 4.1
_MOBILITY, _HIP, _SHIM6 = 135, 139, 140  # RFC 6275, RFC 7401, RFC 5533; laid out as RFC 6564 asks
_EXTENSIONS = frozenset(
    {_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION, _MOBILITY, _HIP, _SHIM6}
)
_EXTENSION_LIMIT = 8  # ours: honest packets carry one or two, and each costs a step

_IPV4 = Struct("!BxH8x4s4s")  # version and IHL, total length, source, destination
_IPV6 = Struct("!4xH2x16s16s")  # payload length, source, destination


class Transport(NamedTuple):
    """Where the upper layer of a packet begins."""

    protocol: int
    offset: int
    """Of its first byte, from the start of the packet."""
    fragment_offset: int
    """0: the transport header is at `offset`; else `offset` is in the middle of it or of its data."""
    more_fragments: bool


def addresses(packet: Buffer) -> tuple[bytes, bytes] | None:
    """(source, destination) as 4 or 16 bytes. Fragments have them like any packet."""
    size = len(packet)
    if size < IPV4_HEADER_BYTES:
        return None
    first = packet[0]
    if first >> 4 == 4:
        first, total, source, destination = _IPV4.unpack_from(packet)
        ihl = first & 0xF
        if total == size and (ihl == IPV4_MIN_IHL or IPV4_MIN_IHL < ihl <= size >> 2):
            return source, destination
    elif first >> 4 == 6 and size >= IPV6_HEADER_BYTES:
        payload, source, destination = _IPV6.unpack_from(packet)
        if payload + IPV6_HEADER_BYTES == size:
            return source, destination
    return None


def destination(packet: Buffer) -> bytes | None:
    """The destination as 4 or 16 bytes: what the route look-up takes."""
    found = addresses(packet)
    return found[1] if found else None


def transport(packet: Buffer) -> Transport | None:
    """What the packet carries, behind IPv4 options or IPv6 extension headers. None also where the chain of
    extension headers runs over the end or is longer than 8."""
    if addresses(packet) is None:
        return None
    if packet[0] >> 4 == 4:
        word = int.from_bytes(packet[6:8])
        offset = (packet[0] & 0xF) * 4
        return Transport(packet[9], offset, word & IPV4_FRAGMENT_OFFSET, bool(word & IPV4_MORE_FRAGMENTS))
    return _transport_v6(packet)


def _transport_v6(packet: Buffer) -> Transport | None:
    """Walks the extension headers (RFC 8200 section 4)."""
    protocol, offset, more = packet[6], IPV6_HEADER_BYTES, False
    for _ in range(_EXTENSION_LIMIT + 1):
        if protocol not in _EXTENSIONS:
            return Transport(protocol, offset, 0, more)
        if offset + 8 > len(packet):
            return None
        kind, protocol, length = protocol, packet[offset], packet[offset + 1]
        if kind == _FRAGMENT:
            word = int.from_bytes(packet[offset + 2 : offset + 4])
            more = bool(word & 1)
            if word >> 3:
                return Transport(protocol, offset + 8, word >> 3, more)
            offset += 8
        elif kind == _AUTHENTICATION:
            offset += (length + 2) * 4  # RFC 4302 section 2.2
        else:
            offset += (length + 1) * 8
        if offset > len(packet):
            return None
    return None
