"""ICMP messages against the RFCs, and any bytes against the readers."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.net import echo
from tulle.net.checksum import checksum
from tulle.net.icmp import unreachable
from tulle.net.packet import ICMP, ICMPV6
from tulle.net.prefix import Family
from tulle.testing.packets import packet

SOURCES: dict[Family, tuple[str, str, bytes]] = {
    4: ("192.0.2.1", "192.0.2.2", bytes([192, 0, 2, 9])),
    6: ("2001:db8::1", "2001:db8::2", bytes.fromhex("20010db8000000000000000000000009")),
}
families = st.sampled_from([4, 6])
words = st.integers(0, 0xFFFF)


@given(st.binary(max_size=64), words, words)
def test_a_request_carries_its_checksum_whatever_the_length(
    payload: bytes, identifier: int, number: int
) -> None:
    assert checksum(echo.echo_request(4, identifier, number, payload)) == 0


@given(families, words, words, st.binary(max_size=40))
def test_a_reply_is_read_with_identifier_number_and_payload(
    family: Family, identifier: int, number: int, payload: bytes
) -> None:
    message = echo.HEADER.pack(echo.REPLY[family], 0, 0, identifier, number) + payload
    assert echo.read_reply(family, message) == (identifier, number, payload)


@given(families, st.integers(0, 255))
def test_only_a_reply_is_a_reply(family: Family, kind: int) -> None:
    found = echo.read_reply(family, echo.HEADER.pack(kind, 0, 0, 1, 1))
    assert (found is not None) == (kind == echo.REPLY[family])


@given(families, st.binary(max_size=100))
def test_any_bytes_are_read_or_are_none(family: Family, data: bytes) -> None:
    inner = echo.without_ip_header(family, data)
    assert len(inner) <= len(data)
    for found in (
        echo.read_reply(family, inner),
        echo.read_refusal(family, inner),
        echo.read_times(inner, 1),
    ):
        assert found is None or len(found) >= 3


@pytest.mark.parametrize("options", [0, 1, 10])
def test_an_ipv4_header_is_taken_off_with_its_options(options: int) -> None:
    header = bytes([0x45 + options]) + bytes(19 + 4 * options)
    assert echo.without_ip_header(4, header + b"message") == b"message"


def test_an_ipv6_socket_gives_no_header() -> None:
    assert echo.without_ip_header(6, b"message") == b"message"


@pytest.mark.parametrize("family", [4, 6])
def test_an_unreachable_of_the_engine_is_read_with_the_request_it_quotes(family: Family) -> None:
    source, destination, router = SOURCES[family]
    request = echo.echo_request(family, 77, 9, b"x" * 20)
    error = unreachable(
        packet(source, destination, request, protocol=ICMP if family == 4 else ICMPV6), router
    )
    assert error is not None
    found = echo.read_refusal(family, error[20 if family == 4 else 40 :])
    assert found is not None
    assert (found.identifier, found.sequence, found.mtu) == (77, 9, 0)
    assert found.reason == {4: "network unreachable", 6: "no route to destination"}[family]


def error_message(family: Family, kind: int, code: int, rest: int, identifier: int = 5) -> bytes:
    source, destination, _ = SOURCES[family]
    request = echo.echo_request(family, identifier, 6, b"")
    quote = packet(source, destination, request, protocol=ICMP if family == 4 else ICMPV6)
    return struct.pack("!BBHI", kind, code, 0, rest) + quote


@pytest.mark.parametrize(
    ("family", "kind", "code", "rest", "reason", "mtu"),
    [
        (4, 3, 1, 0, "host unreachable", 0),
        (4, 3, 4, 1400, "packet too big", 1400),
        (4, 3, 13, 0, "administratively prohibited", 0),
        (4, 3, 99, 0, "unreachable (code 99)", 0),
        (4, 11, 0, 0, "time exceeded", 0),
        (6, 1, 3, 0, "address unreachable", 0),
        (6, 2, 0, 1400, "packet too big", 1400),
        (6, 3, 0, 0, "time exceeded", 0),
    ],
)
def test_errors_are_told_in_words(
    family: Family, kind: int, code: int, rest: int, reason: str, mtu: int
) -> None:
    found = echo.read_refusal(family, error_message(family, kind, code, rest))
    assert found == (5, 6, reason, mtu)


def test_an_error_that_quotes_something_else_is_none() -> None:
    udp = struct.pack("!BBHI", 3, 3, 0, 0) + packet("192.0.2.1", "192.0.2.2", bytes(16))
    assert echo.read_refusal(4, udp) is None


@given(
    st.integers(-echo.DAY_MS // 2 + 1, echo.DAY_MS // 2 - 1),
    st.integers(0, echo.DAY_MS - 1),
    st.integers(0, 2000),
)
def test_the_offset_of_a_clock_is_found_also_around_midnight(ahead: int, sent: int, one_way: int) -> None:
    there = (sent + one_way + ahead) % echo.DAY_MS
    times = echo.Times(sent, there, there)
    heard = (sent + 2 * one_way) % echo.DAY_MS
    if abs(ahead) + one_way < echo.DAY_MS // 2:
        assert echo.offset_ms(times, heard) == ahead


def test_a_timestamp_reply_is_read_for_its_own_request_only() -> None:
    reply = bytearray(echo.timestamp_request(7, 1, 1234))
    reply[0] = echo.TIMESTAMP_REPLY
    reply[12:20] = struct.pack("!II", 2000, 2001)
    assert echo.read_times(bytes(reply), 7) == (1234, 2000, 2001)
    assert echo.read_times(bytes(reply), 8) is None
    reply[12] |= 0x80  # "not milliseconds since midnight": RFC 792
    assert echo.read_times(bytes(reply), 7) is None
