"""What a sender left to hardware is done here; what is whole is not touched."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.net.checksum import checksum, fold, pseudo_header_sum
from tulle.net.packet import TCP, UDP
from tulle_vxlan.unfinished import finished, is_partial

MTU = 1450
ENDS = {4: ("10.42.2.2", "10.42.1.2"), 6: ("fd42:0:0:2::2", "fd42:0:0:1::2")}
FIELDS = {TCP: 16, UDP: 6}


def sums(family: int, protocol: int, segment: bytes) -> tuple[int, int]:
    """The pseudo-header's sum, and the right checksum."""
    source, target = (ip_address(one).packed for one in ENDS[family])
    pseudo = pseudo_header_sum(source, target, protocol, len(segment))
    return 0xFFFF - fold(pseudo), checksum(segment, pseudo)


def built(family: int, protocol: int, payload: bytes, partial: bool) -> bytes:
    if protocol == TCP:
        segment = struct.pack("!HHIIBBHHH", 1000, 2000, 77, 0, 5 << 4, 0x18, 500, 0, 0) + payload
    else:
        segment = struct.pack("!HHHH", 1000, 2000, 8 + len(payload), 0) + payload
    at = FIELDS[protocol]
    value = sums(family, protocol, segment)[0 if partial else 1]
    segment = segment[:at] + value.to_bytes(2, "big") + segment[at + 2 :]
    return ip(family, protocol, segment)


def ip(family: int, protocol: int, segment: bytes) -> bytes:
    source, target = (ip_address(one).packed for one in ENDS[family])
    if family == 6:
        return struct.pack("!IHBB", 6 << 28, len(segment), protocol, 64) + source + target + segment
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 9, 0, 64, protocol, 0) + source + target
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + segment


CASES = [(family, protocol) for family in (4, 6) for protocol in (TCP, UDP)]


@pytest.mark.parametrize(("family", "protocol"), CASES)
@given(payload=st.binary(max_size=64))
def test_a_missing_checksum_is_written_and_a_right_one_is_left(
    family: int, protocol: int, payload: bytes
) -> None:
    whole, partial = (built(family, protocol, payload, one) for one in (False, True))
    assert is_partial(partial)
    assert [bytes(one) for one in finished(partial, MTU)] == [whole]
    assert [bytes(one) for one in finished(whole, MTU)] == [whole]


@pytest.mark.parametrize("family", [4, 6])
def test_a_tcp_packet_that_was_to_be_cut_is_cut(family: int) -> None:
    payload = bytes(range(256)) * 40
    pieces = [bytes(one) for one in finished(built(family, TCP, payload, True), MTU)]
    start = 40 if family == 4 else 60
    assert b"".join(one[start:] for one in pieces) == payload
    assert max(map(len, pieces)) == MTU
    assert not any(is_partial(one) for one in pieces)
    assert [int.from_bytes(one[start - 16 : start - 12], "big") - 77 for one in pieces] == [
        number * (MTU - start) for number in range(len(pieces))
    ]


@pytest.mark.parametrize("family", [4, 6])
def test_udp_datagrams_in_one_packet_are_dropped_and_one_that_is_long_is_left_to_the_kernel(
    family: int,
) -> None:
    assert finished(built(family, UDP, bytes(2000), True), MTU) == ()
    whole = built(family, UDP, bytes(2000), False)
    assert list(finished(whole, MTU)) == [whole]


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        ip(4, 1, b"\x08\0\0\0\0\0\0\0"),
        ip(4, UDP, bytes(7)),
        ip(6, TCP, bytes(17)),
        ip(4, UDP, struct.pack("!HHHH", 1, 2, 8, 0)),  # without a checksum: RFC 768
        ip(4, 50, bytes(30)),
    ],
)
def test_what_has_no_such_checksum_is_left_as_it_is(packet: bytes) -> None:
    assert not is_partial(packet)
    assert list(finished(packet, MTU)) == [packet]


def test_a_fragment_is_left_as_it_is() -> None:
    whole = built(4, UDP, b"x" * 32, True)
    for word in (0x2000, 0x0004):
        fragment = whole[:6] + word.to_bytes(2, "big") + whole[8:]
        assert not is_partial(fragment)
        assert list(finished(fragment, MTU)) == [fragment]


@given(st.binary(max_size=120), st.integers(0, 200))
def test_any_bytes_are_survived(packet: bytes, mtu: int) -> None:
    is_partial(packet)
    finished(packet, mtu)
