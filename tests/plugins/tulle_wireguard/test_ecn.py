"""ECN across the tunnel: RFC 6040's table, both families, checksums kept right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.net.checksum import checksum
from tulle_wireguard import ecn

NOT, ECT1, ECT0, CE = 0, 1, 2, 3

TABLE = {
    # inner: by outer Not-ECT, ECT(1), ECT(0), CE. RFC 6040 figure 4; the last of the first row is dropped there.
    NOT: [NOT, NOT, NOT, NOT],
    ECT1: [ECT1, ECT1, ECT1, CE],
    ECT0: [ECT0, ECT1, ECT0, CE],
    CE: [CE, CE, CE, CE],
}


def ipv4(ds: int) -> bytes:
    head = bytes([0x45, ds, 0, 28, 1, 2, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
    return head[:10] + checksum(head).to_bytes(2) + head[12:] + b"payload!"


def ipv6(ds: int) -> bytes:
    return bytes([0x60 | ds >> 4, (ds & 15) << 4 | 0xA, 0xBC, 0xDE, 0, 8, 17, 64]) + bytes(32) + b"payload!"


def ds_of(packet: bytes) -> int:
    return packet[1] if packet[0] >> 4 == 4 else (packet[0] & 15) << 4 | packet[1] >> 4


@pytest.mark.parametrize("make", [ipv4, ipv6])
@pytest.mark.parametrize("inner", [NOT, ECT1, ECT0, CE])
def test_a_packet_comes_out_as_rfc_6040_says(make: type, inner: int) -> None:
    for outer, expected in enumerate(TABLE[inner]):
        for dscp in (0, 0x88, 0xFC):
            packet = make(0xB8 | inner)
            assert ecn.applied(packet, dscp | outer) == make(0xB8 | expected)


@pytest.mark.parametrize("make", [ipv4, ipv6])
def test_outside_shows_the_ecn_bits_and_nothing_of_the_class(make: type) -> None:
    for ds in range(256):
        assert ecn.outer(make(ds)) == ds & 3


@given(st.binary(max_size=60))
def test_whatever_is_sealed_has_an_outer_byte(packet: bytes) -> None:
    assert ecn.outer(packet) in range(4)
    assert ecn.outer(memoryview(packet)) == ecn.outer(packet)


@given(st.integers(0, 255), st.integers(0, 255))
def test_the_header_checksum_stays_right(inner: int, outer: int) -> None:
    packet = ecn.applied(ipv4(inner), outer)
    assert checksum(packet[:20]) == 0
    assert packet[20:] == b"payload!"
    assert ds_of(packet) >> 2 == inner >> 2
