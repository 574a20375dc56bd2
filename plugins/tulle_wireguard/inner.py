"""From a message's plain text to the packet in it: padding off, and whose packet it says it is."""

from __future__ import annotations

from tulle.net.packet import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES


def unpadded(plain: bytes) -> tuple[bytes, bytes] | None:
    """(packet, source address) of an IPv4 or IPv6 packet with padding behind; None for anything else. The length in
    the packet's own header says where the padding begins (paper section 5.4.6)."""
    size = len(plain)
    if size < IPV4_HEADER_BYTES:
        return None
    version = plain[0] >> 4
    if version == 4:
        length = plain[2] << 8 | plain[3]
        if not IPV4_HEADER_BYTES <= length <= size:
            return None
        return (plain if length == size else plain[:length]), plain[12:16]
    if version == 6:
        length = IPV6_HEADER_BYTES + (plain[4] << 8 | plain[5])
        if length > size:
            return None
        return (plain if length == size else plain[:length]), plain[8:24]
    return None
