"""The headers of inner packets: what the data path reads of each."""

from __future__ import annotations

from tulle.net.packet import addresses, destination, transport
from tulle.net.prefix import prefix_from_int
from tulle.net.table import PrefixTable
from tulle.testing.packets import packet

_V6 = packet("fd00::1", "fd01::2", bytes([17, 0, 1, 4]) + bytes(4) + bytes(8), protocol=60)
SEEDS = [
    packet("10.1.0.2", "10.2.0.2", b"payload"),
    packet("fd00::1", "fd01::2", b"payload"),
    _V6,
    b"\x4f\0\0\x3c" + bytes(56),
    packet("fd00::1", "fd01::2", bytes([6, 0, 0, 9]) + bytes(12), protocol=44),
    packet("fd00::1", "fd01::2", bytes([6, 1]) + bytes(14), protocol=51),
]

_EVERYTHING: PrefixTable[int] = PrefixTable()
for _family in (4, 6):
    _EVERYTHING.insert(prefix_from_int(_family, 0, 0), _family)


def target(data: bytes) -> None:
    ends, carried = addresses(data), transport(data)
    assert (addresses(memoryview(data)), transport(bytearray(data))) == (ends, carried)
    assert destination(data) == (ends and ends[1])
    if ends is None:
        assert carried is None
        return
    size = {4: 4, 6: 16}[data[0] >> 4]
    assert list(map(len, ends)) == [size, size]
    assert _EVERYTHING.lookup(ends[1]) == data[0] >> 4
    if carried is not None:
        assert {4: 20, 16: 40}[size] <= carried.offset <= len(data)
        assert 0 <= carried.fragment_offset < 1 << 13
        assert 0 <= carried.protocol <= 255
