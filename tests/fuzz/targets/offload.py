"""The virtio header and the super-packet behind it: splitting, and finishing checksums."""

from __future__ import annotations

from struct import pack

from tulle.net import gso
from tulle.net.checksum import checksum, pseudo_header_sum
from tulle.net.packet import TCP, UDP, Buffer, addresses, transport
from tulle.testing.packets import packet

_TCP = pack("!HHIIBBHHH", 1, 2, 0xFFFFFFF0, 7, 5 << 4, 0x18, 512, 0, 0)
_UDP = pack("!HHHH", 1, 2, 0, 0)


def _framed(kind: int, size: int, inner: bytes, start: int, offset: int, flags: int = 1) -> bytes:
    return gso.pack(gso.Header(flags, kind, 0, size, start, offset)) + inner


SEEDS = [
    _framed(gso.GSO_TCPV4, 100, packet("10.1.0.2", "10.2.0.2", _TCP + bytes(range(250)), protocol=6), 20, 16),
    _framed(gso.GSO_TCPV6, 64, packet("fd00::1", "fd01::2", _TCP + bytes(200), protocol=6), 40, 16),
    _framed(gso.GSO_UDP_L4, 50, packet("10.1.0.2", "10.2.0.2", _UDP + b"x" * 170), 20, 6),
    _framed(gso.GSO_UDP_L4 | gso.GSO_ECN, 50, packet("fd00::1", "fd01::2", _UDP + b"x" * 170), 40, 6, 0),
    _framed(gso.GSO_NONE, 0, packet("10.1.0.2", "10.2.0.2", _UDP + b"x"), 20, 6),
    _framed(gso.GSO_NONE, 0, b"", 0, 0, 0),
]


def target(data: bytes) -> None:
    header = gso.parse(data)
    if header is None:
        assert len(data) < gso.HEADER_BYTES
        return
    whole = data[gso.HEADER_BYTES :]
    made = [bytes(one) for one in gso.split(header, whole)]
    if header.gso_type & ~gso.GSO_ECN == gso.GSO_NONE:
        _check_finished(header, whole, made)
    elif made:
        _check_segments(header, whole, made)


def _check_finished(header: gso.Header, whole: bytes, made: list[bytes]) -> None:
    """At most the two bytes of the checksum differ."""
    field = header.csum_start + header.csum_offset
    if not header.flags & gso.NEEDS_CSUM:
        assert made == [whole]
    elif made:
        (one,) = made
        assert (one[:field], one[field + 2 :], len(one)) == (whole[:field], whole[field + 2 :], len(whole))
    else:
        assert field + 2 > len(whole)


def _check_segments(header: gso.Header, whole: bytes, made: list[bytes]) -> None:
    """Together they are the data; each is a whole packet of the same flow with right checksums."""
    carried = transport(whole)
    assert carried is not None
    end = _data_starts(whole, carried.protocol, carried.offset)
    assert b"".join(one[end:] for one in made) == whole[end:]
    assert len(made) == max(1, -(-(len(whole) - end) // header.gso_size))
    for one in made:
        ends = addresses(one)
        assert ends is not None
        assert ends == addresses(whole)
        assert len(one) <= end + header.gso_size
        body = one[carried.offset :]
        assert checksum(body, pseudo_header_sum(*ends, carried.protocol, len(body))) == 0
        assert one[0] >> 4 == 6 or checksum(one[: carried.offset]) == 0


def _data_starts(whole: Buffer, protocol: int, start: int) -> int:
    assert protocol in (TCP, UDP)
    return start + (8 if protocol == UDP else (whole[start + 12] >> 4) * 4)
