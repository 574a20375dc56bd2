"""ECN across the tunnel: RFC 6040, normal mode (sections 4.1 and 4.2). DSCP does not cross it.

The outer DS byte of transport messages carries the inner ECN bits and no DSCP, so that the class of what is inside
does not show. A packet that was not ECN-capable and met congestion outside would be dropped by RFC 6040; it is let
through unmarked, as Linux's WireGuard does.
"""

from __future__ import annotations

from tulle.net.checksum import update
from tulle.net.packet import Buffer

NOT_ECT, ECT1, ECT0, CE = 0b00, 0b01, 0b10, 0b11  # RFC 3168 section 5
_MASK = 0b11
_IPV4_CHECKSUM = slice(10, 12)  # RFC 791 section 3.1


def outer(packet: Buffer) -> int:
    """The outer DS byte for an inner packet. Both families; 0 for anything else (a keepalive)."""
    if len(packet) < 2:
        return 0
    version = packet[0] >> 4
    if version == 4:
        return packet[1] & _MASK
    # RFC 8200 section 3: the class lies across two bytes.
    return packet[1] >> 4 & _MASK if version == 6 else 0


def merged(inner: int, outside: int) -> int:
    """The ECN bits of the packet that comes out (RFC 6040, figure 4, but see the module)."""
    if inner in (NOT_ECT, CE):
        return inner
    if outside == CE:
        return CE
    return ECT1 if outside == ECT1 else inner


def applied(packet: bytes, ds: int) -> bytes:
    """The packet as it comes out of a datagram whose DS byte was `ds`. The packet is whole IPv4 or IPv6."""
    if ds & _MASK in (NOT_ECT, ECT0):
        return packet
    inner = outer(packet)
    after = merged(inner, ds & _MASK)
    if after == inner:
        return packet
    changed = bytearray(packet)
    if packet[0] >> 4 == 4:
        changed[1] = packet[1] & ~_MASK | after
        check = int.from_bytes(packet[_IPV4_CHECKSUM])
        changed[_IPV4_CHECKSUM] = update(check, packet[:2], changed[:2]).to_bytes(2)
    else:
        changed[1] = packet[1] & ~(_MASK << 4) | after << 4
    return bytes(changed)
