"""Inner packets for tests, made by the book and checked naively."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from tulle.net.checksum import checksum
from tulle.net.packet import UDP


def packet(source: str, destination: str, payload: bytes = b"", *, protocol: int = UDP) -> bytes:
    """A whole IPv4 or IPv6 packet with that payload behind the IP header."""
    first, second = ip_address(source), ip_address(destination)
    if first.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
        return head + first.packed + second.packed + payload
    head = (
        struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
        + first.packed
        + second.packed
    )
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload
