"""IP headers: addresses and ends of what is whole, None for everything else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.net.packet import TCP, UDP, Transport, addresses, destination, transport

A4, B4 = bytes([10, 5, 1, 2]), bytes([10, 5, 2, 3])
A6, B6 = bytes(15) + b"\x01", bytes.fromhex("fd00") + bytes(13) + b"\x02"
ENDS = [(A4, B4), (A6, B6)]

FRAGMENT, HOP_BY_HOP, AUTHENTICATION, DESTINATION = 44, 0, 51, 60


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_whole_packet_has_its_ends(slow: SimpleNamespace, ends: tuple[bytes, bytes], kind: type) -> None:
    packet = kind(slow.ip(*ends, UDP, b"payload"))
    found = addresses(packet)
    assert found == ends
    assert found is not None
    assert [type(end) for end in found] == [bytes, bytes]
    assert destination(packet) == ends[1]


@pytest.mark.parametrize("ends", ENDS)
def test_a_packet_that_is_cut_or_followed_by_more_is_none(
    slow: SimpleNamespace, ends: tuple[bytes, bytes]
) -> None:
    packet = slow.ip(*ends, UDP, b"payload")
    for size in range(len(packet)):
        assert addresses(packet[:size]) is None
    assert addresses(packet + b"\0") is None
    assert destination(packet + b"\0") is None


@pytest.mark.parametrize("version", [0, 1, 5, 7, 15])
def test_another_version_is_none(slow: SimpleNamespace, version: int) -> None:
    packet = bytearray(slow.ipv4(A4, B4, UDP, bytes(40)))
    packet[0] = version << 4 | 5
    assert addresses(packet) is None
    assert transport(packet) is None


@pytest.mark.parametrize(("ihl", "whole"), [(0, False), (4, False), (5, True), (10, True), (11, False)])
def test_an_ipv4_header_length_lies_between_20_bytes_and_the_packet(
    slow: SimpleNamespace, ihl: int, whole: bool
) -> None:
    packet = bytearray(slow.ipv4(A4, B4, UDP, bytes(20)))
    packet[0] = 0x40 | ihl
    assert (addresses(packet) is not None) is whole


def test_an_ipv4_fragment_is_routable(slow: SimpleNamespace) -> None:
    packet = slow.ipv4(A4, B4, UDP, bytes(8), flags=0x2000 | 185)
    assert addresses(packet) == (A4, B4)
    assert transport(packet) == Transport(UDP, 20, 185, True)


def test_ipv4_options_lie_before_the_transport(slow: SimpleNamespace) -> None:
    assert transport(slow.ipv4(A4, B4, TCP, bytes(20), options=3)) == Transport(TCP, 32, 0, False)


def test_ipv6_extension_headers_are_walked(slow: SimpleNamespace) -> None:
    chain = (
        bytes([DESTINATION, 1])
        + bytes(14)  # hop-by-hop, 16 bytes
        + bytes([AUTHENTICATION, 0])
        + bytes(6)  # destination options, 8 bytes
        + bytes([FRAGMENT, 4])
        + bytes(22)  # authentication, (4 + 2) * 4 bytes
        + bytes([UDP, 0, 0, 1])
        + bytes(4)  # first fragment, more to come
    )
    packet = slow.ipv6(A6, B6, HOP_BY_HOP, chain + bytes(8))
    assert transport(packet) == Transport(UDP, 40 + len(chain), 0, True)


def test_a_later_ipv6_fragment_says_so(slow: SimpleNamespace) -> None:
    packet = slow.ipv6(A6, B6, FRAGMENT, bytes([UDP, 0, 0, 8 * 5]) + bytes(12))
    assert transport(packet) == Transport(UDP, 48, 5, False)


def test_a_chain_that_runs_over_the_end_or_is_endless_has_no_transport(slow: SimpleNamespace) -> None:
    assert transport(slow.ipv6(A6, B6, HOP_BY_HOP, bytes([UDP, 9]) + bytes(14))) is None
    assert transport(slow.ipv6(A6, B6, HOP_BY_HOP, b"\0")) is None
    link = bytes([DESTINATION, 0]) + bytes(6)
    assert transport(slow.ipv6(A6, B6, DESTINATION, link * 7 + bytes([UDP, 0]) + bytes(6) + bytes(8)))
    assert transport(slow.ipv6(A6, B6, DESTINATION, link * 8 + bytes([UDP, 0]) + bytes(6) + bytes(8))) is None


@given(st.binary(max_size=120), st.sampled_from([None, 0x45, 0x4F, 0x60]))
def test_any_bytes_are_data(data: bytes, first: int | None) -> None:
    packet = bytearray(data)
    if first is not None and len(packet) >= 6:
        packet[0] = first
        packet[2:4] = len(packet).to_bytes(2)
        packet[4:6] = max(len(packet) - 40, 0).to_bytes(2)
    found = addresses(packet)
    where = transport(packet)
    assert found is None or len(found[0]) == len(found[1]) == (4 if packet[0] >> 4 == 4 else 16)
    assert where is None or (found is not None and where.offset <= len(packet))
