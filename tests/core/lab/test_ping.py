"""The lab's own ICMP echo. That it agrees with the system's ping is tested in test_build."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.lab.ping import HEADER, MARK, checksum, echo_request, family_of, read_reply

V4, V6 = socket.AF_INET, socket.AF_INET6
IP_HEADER = bytes([0x45]) + bytes(19)
IP_HEADER_WITH_OPTIONS = bytes([0x46]) + bytes(23)


def test_the_checksum_is_that_of_rfc_1071() -> None:
    # The example of RFC 1071 section 3, of which the sum is ddf2.
    assert checksum(bytes([0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7])) == 0xFFFF - 0xDDF2


@given(st.binary(min_size=8, max_size=64).filter(lambda data: len(data) % 2 == 0), st.integers(0, 0xFFFF))
def test_a_packet_with_its_checksum_sums_to_zero(payload: bytes, sequence: int) -> None:
    assert checksum(echo_request(8, 77, sequence, payload)) == 0


@pytest.mark.parametrize(
    ("family", "kind", "before"), [(V4, 0, IP_HEADER), (V4, 0, IP_HEADER_WITH_OPTIONS), (V6, 129, b"")]
)
def test_a_reply_is_read_with_its_mark_and_number(family: int, kind: int, before: bytes) -> None:
    assert read_reply(family, before + HEADER.pack(kind, 0, 0, 1, 9) + MARK.pack(1234)) == (1234, 9)


@pytest.mark.parametrize(("family", "kind"), [(V4, 8), (V4, 3), (V6, 128), (V6, 135)])
def test_a_request_or_an_error_is_no_reply(family: int, kind: int) -> None:
    before = IP_HEADER if family == V4 else b""
    assert read_reply(family, before + HEADER.pack(kind, 0, 0, 1, 9) + MARK.pack(1234)) is None


@given(st.binary(max_size=60), st.sampled_from([V4, V6]))
def test_any_bytes_are_a_reply_or_none(packet: bytes, family: int) -> None:
    found = read_reply(family, packet)
    assert found is None or len(found) == 2


def test_the_family_is_that_of_the_address() -> None:
    assert (family_of("10.0.0.1"), family_of("fd00::1")) == (V4, V6)
