"""Padding off: the inner header says where the packet ends, and lies are nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tulle.net.packet import addresses
from tulle_wireguard.inner import unpadded


def ipv4(payload: int, claimed: int | None = None) -> bytes:
    length = 20 + payload if claimed is None else claimed
    return bytes([0x45, 0]) + length.to_bytes(2) + bytes(8) + b"\x0a\0\0\x01\x0a\0\0\x02" + b"x" * payload


def ipv6(payload: int, claimed: int | None = None) -> bytes:
    length = payload if claimed is None else claimed
    return bytes([0x60, 0, 0, 0]) + length.to_bytes(2) + bytes(2) + b"s" * 16 + b"d" * 16 + b"x" * payload


@given(st.integers(0, 1400), st.integers(0, 15))
def test_a_packet_comes_out_without_its_padding(payload: int, padding: int) -> None:
    assert unpadded(ipv4(payload) + bytes(padding)) == (ipv4(payload), b"\x0a\0\0\x01")
    assert unpadded(ipv6(payload) + bytes(padding)) == (ipv6(payload), b"s" * 16)


def test_a_length_that_is_not_there_is_no_packet() -> None:
    assert unpadded(ipv4(10, 31)) is None
    assert unpadded(ipv4(10, 19)) is None
    assert unpadded(ipv6(10, 11)) is None
    assert unpadded(ipv4(0)[:19]) is None
    assert unpadded(ipv6(0)[:39]) is None


@given(st.binary(max_size=100))
def test_any_plain_text_is_a_packet_or_nothing(plain: bytes) -> None:
    found = unpadded(plain)
    if found is not None:
        packet, source = found
        assert plain.startswith(packet)
        assert addresses(packet) is None or addresses(packet)[0] == source  # type: ignore[index]
