"""Packets that arrive together are written as super-packets: cut again they are the very same packets."""

from __future__ import annotations

from struct import pack

from fuzz.bites import Bites, pieces
from tulle.net import coalesce, gso
from tulle.net.checksum import checksum, pseudo_header_sum
from tulle.net.packet import TCP, Buffer, addresses, transport
from tulle.testing.packets import packet

LIMIT = 200
"""Packets of an input."""


def _segments(source: str, target: str, count: int, size: int, first: int = 0xFFFFFFFF) -> list[bytes]:
    """Of one stream, as `gso.split` makes them."""
    start = 40 if ":" in source else 20
    head = pack("!HHIIBBHHH", 80, 1025, first, 7, 5 << 4, 0x18, 512, 0, 0)
    whole = packet(source, target, head + bytes(range(256)) * (count * size // 256 + 1), protocol=TCP)
    kind = gso.GSO_TCPV6 if start == 40 else gso.GSO_TCPV4
    header = gso.Header(gso.NEEDS_CSUM, kind, 0, size, start, gso.TCP_CSUM_OFFSET)
    return [bytes(one) for one in gso.split(header, whole)][:count]


_FOUR = _segments("10.1.0.2", "10.2.0.2", 4, 30)
_SIX = _segments("fd00::1", "fd01::2", 3, 17)
SEEDS = [
    b"\0" + pieces(*_FOUR),
    b"\0" + pieces(*_SIX),
    b"\0" + pieces(*(one for both in zip(_FOUR, _SIX, strict=False) for one in both)),
    b"\0" + pieces(_FOUR[1], _FOUR[0], _FOUR[0], _FOUR[2]),
    b"\1" + pieces(*_FOUR, packet("10.1.0.2", "10.2.0.2", b"datagram")),
]


def target(data: bytes) -> None:
    """The first byte says whether wrong checksums are put right first, without which few inputs would get far."""
    bites = Bites(data)
    mend = bites.number() & 1
    given = [one for one in bites.pieces(LIMIT) if addresses(one) is not None]
    packets: list[Buffer] = [_mended(one) if mend else one for one in given]
    groups = coalesce.group(packets)
    again: list[bytes] = []
    for group in groups:
        frame = b"".join(coalesce.join(group))
        header = gso.parse(frame)
        assert header is not None
        cut = [bytes(one) for one in gso.split(header, frame[gso.HEADER_BYTES :])]
        assert cut == [bytes(one) for one in group]
        assert len(frame) <= gso.HEADER_BYTES + max(coalesce.MAX_BYTES, len(group[0]))
        again += cut
    assert sorted(again) == sorted(bytes(one) for one in packets)
    for flow in {_flow(one) for one in again}:
        assert [one for one in again if _flow(one) == flow] == [
            one for one in map(bytes, packets) if _flow(one) == flow
        ]


def _flow(one: bytes) -> tuple[object, ...]:
    """Within one, nothing overtakes."""
    carried = transport(one)
    ports = one[carried.offset : carried.offset + 4] if carried and carried.protocol == TCP else b""
    return (addresses(one), carried and carried.protocol, ports)


def _mended(one: bytes) -> bytes:
    """With right checksums."""
    ends, carried = addresses(one), transport(one)
    if ends is None or carried is None or carried.protocol != TCP or len(one) < carried.offset + 20:
        return one
    changed = bytearray(one)
    if one[0] >> 4 == 4:
        changed[10:12] = bytes(2)
        changed[10:12] = checksum(changed[: carried.offset]).to_bytes(2, "big")
    field = carried.offset + gso.TCP_CSUM_OFFSET
    changed[field : field + 2] = bytes(2)
    body = changed[carried.offset :]
    changed[field : field + 2] = checksum(body, pseudo_header_sum(*ends, TCP, len(body))).to_bytes(2, "big")
    return bytes(changed)
