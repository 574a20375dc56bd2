"""The virtio header, and packets that the kernel left unfinished: checksums, segments."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.net.gso import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    HEADER_BYTES,
    NEEDS_CSUM,
    PLAIN,
    Header,
    finish,
    pack,
    parse,
    split,
)
from tulle.net.packet import TCP, UDP, addresses

A4, B4 = bytes([10, 5, 1, 2]), bytes([10, 5, 2, 3])
A6, B6 = bytes.fromhex("fd00") + bytes(13) + b"\x01", bytes.fromhex("fd00") + bytes(13) + b"\x02"
FIN, SYN, PSH, ACK, CWR = 0x01, 0x02, 0x08, 0x10, 0x80
DONT_FRAGMENT = 0x4000

ends = st.sampled_from([(A4, B4), (A6, B6)])


def transport_start(packet: bytes) -> int:
    """Of a packet without IPv6 extension headers."""
    return (packet[0] & 0xF) * 4 if packet[0] >> 4 == 4 else 40


def assert_checksums_are_right(slow: SimpleNamespace, packet: bytes) -> None:
    """By the slow way, over header and pseudo-header."""
    found = addresses(packet)
    assert found is not None
    start = transport_start(packet)
    protocol = packet[9] if len(found[0]) == 4 else packet[6]
    if len(found[0]) == 4:
        assert slow.checksum(packet[:start]) == 0
    body = packet[start:]
    assert slow.checksum(slow.pseudo(*found, protocol, len(body)) + body) == 0


def test_the_header_has_ten_bytes_in_native_order() -> None:
    header = Header(NEEDS_CSUM, GSO_TCPV4, 54, 1448, 34, 16)
    assert pack(header) == struct.pack("=BBHHHH", 1, 1, 54, 1448, 34, 16)
    assert len(pack(header)) == HEADER_BYTES
    assert parse(pack(header) + b"packet") == header
    assert pack(Header()) == PLAIN == bytes(10)


def test_a_header_that_is_cut_is_none() -> None:
    assert [parse(bytes(size)) for size in range(HEADER_BYTES)] == [None] * HEADER_BYTES


@given(ends, st.binary(min_size=1, max_size=100), st.sampled_from([TCP, UDP]))
def test_a_missing_checksum_is_finished(
    slow: SimpleNamespace, pair: tuple[bytes, bytes], payload: bytes, protocol: int
) -> None:
    offset = 16 if protocol == TCP else 6
    body = bytearray(slow.tcp(1, ACK, payload) if protocol == TCP else slow.udp(payload))
    # The kernel leaves the pseudo-header's sum in the field.
    partial = slow.checksum(slow.pseudo(*pair, protocol, len(body))) ^ 0xFFFF
    body[offset : offset + 2] = partial.to_bytes(2)
    packet = slow.ip(*pair, protocol, bytes(body))
    start = transport_start(packet)
    done = finish(Header(NEEDS_CSUM, GSO_NONE, 0, 0, start, offset), packet)
    assert done is not None
    done = bytes(done)
    assert_checksums_are_right(slow, done)
    assert done[: start + offset] == packet[: start + offset]
    assert done[start + offset + 2 :] == packet[start + offset + 2 :]


def test_a_complete_packet_is_not_copied(slow: SimpleNamespace) -> None:
    packet: bytes = slow.ipv4(A4, B4, UDP, slow.udp(b"x"))
    assert finish(Header(), packet) is packet
    assert split(Header(), packet) == [packet]


def _zero_sum_udp(slow: SimpleNamespace) -> bytes:
    """A UDP datagram whose checksum comes out as 0."""
    body = slow.udp(b"\0\0")
    missing = slow.checksum(slow.pseudo(A4, B4, UDP, len(body)) + body)
    return bytes(slow.udp(missing.to_bytes(2)))


def test_a_udp_checksum_of_zero_is_sent_as_ones(slow: SimpleNamespace) -> None:
    body = bytearray(_zero_sum_udp(slow))
    body[6:8] = (slow.checksum(slow.pseudo(A4, B4, UDP, len(body))) ^ 0xFFFF).to_bytes(2)
    done = finish(Header(NEEDS_CSUM, GSO_NONE, 0, 0, 20, 6), slow.ipv4(A4, B4, UDP, bytes(body)))
    assert done is not None
    assert bytes(done[26:28]) == b"\xff\xff"
    (segment,) = split(
        Header(NEEDS_CSUM, GSO_UDP_L4, 0, 1000, 20, 6), slow.ipv4(A4, B4, UDP, _zero_sum_udp(slow))
    )
    assert bytes(segment[26:28]) == b"\xff\xff"


@pytest.mark.parametrize(("start", "offset"), [(20, 100), (27, 0), (28, 0), (65535, 65535)])
def test_a_checksum_field_outside_of_the_packet_gives_nothing(
    slow: SimpleNamespace, start: int, offset: int
) -> None:
    packet = slow.ipv4(A4, B4, UDP, slow.udp(b""))
    header = Header(NEEDS_CSUM, GSO_NONE, 0, 0, start, offset)
    assert finish(header, packet) is None
    assert split(header, packet) == []


@given(
    ends,
    st.binary(min_size=1, max_size=400),
    st.integers(1, 150),
    st.integers(0, 2**32 - 1) | st.integers(2**32 - 300, 2**32 - 1),
    st.sampled_from([0, FIN, PSH, CWR, FIN | PSH | CWR]),
    st.integers(0, 3),
    st.integers(0, 0xFFFF),
    st.booleans(),
)
def test_a_tcp_super_packet_is_cut_into_right_segments(
    slow: SimpleNamespace,
    pair: tuple[bytes, bytes],
    payload: bytes,
    size: int,
    sequence: int,
    flags: int,
    option_words: int,
    identification: int,
    viewed: bool,
) -> None:
    flags |= ACK
    body = slow.tcp(sequence, flags, payload, option_words)
    if len(pair[0]) == 4:
        kind = GSO_TCPV4
        packet = slow.ipv4(*pair, TCP, body, identification=identification, flags=DONT_FRAGMENT, options=1)
    else:
        kind, packet = GSO_TCPV6, slow.ipv6(*pair, TCP, body)
    start = transport_start(packet)
    # hdr_len is wrong on purpose.
    header = Header(NEEDS_CSUM, kind | (GSO_ECN if flags & CWR else 0), 9, size, start, 16)
    segments = [bytes(one) for one in split(header, memoryview(packet) if viewed else packet)]
    end = start + 20 + option_words * 4
    assert b"".join(one[end:] for one in segments) == payload
    assert [len(one) - end for one in segments[:-1]] == [size] * (len(segments) - 1)
    for index, one in enumerate(segments):
        assert_checksums_are_right(slow, one)
        assert int.from_bytes(one[start + 4 : start + 8]) == (sequence + index * size) % 2**32
        expected = flags
        if index:
            expected &= ~CWR
        if index < len(segments) - 1:
            expected &= ~(FIN | PSH)
        assert one[start + 13] == expected
        if kind == GSO_TCPV4:
            assert int.from_bytes(one[4:6]) == (identification + index) % 2**16
            assert one[6:10] + one[12:start] == packet[6:10] + packet[12:start]
        # Ports, acknowledgement, data offset, window, urgent pointer and options are the super-packet's.
        for low, high in ((0, 4), (8, 13), (14, 16), (18, 20 + option_words * 4)):
            assert one[start + low : start + high] == packet[start + low : start + high]


@given(ends, st.binary(min_size=1, max_size=400), st.integers(1, 150))
def test_a_udp_super_packet_is_cut_into_right_datagrams(
    slow: SimpleNamespace, pair: tuple[bytes, bytes], payload: bytes, size: int
) -> None:
    packet = slow.ip(*pair, UDP, slow.udp(payload))
    start = transport_start(packet)
    datagrams = [bytes(one) for one in split(Header(NEEDS_CSUM, GSO_UDP_L4, 0, size, start, 6), packet)]
    assert b"".join(one[start + 8 :] for one in datagrams) == payload
    assert len(datagrams) == -(-len(payload) // size)
    for one in datagrams:
        assert_checksums_are_right(slow, one)
        assert one[start : start + 4] == packet[start : start + 4]
        assert int.from_bytes(one[start + 4 : start + 6]) == len(one) - start
        assert one[start + 6 : start + 8] != b"\0\0"


def test_ipv6_extension_headers_are_repeated_in_each_segment(slow: SimpleNamespace) -> None:
    options = bytes([TCP, 0, 1, 4, 0, 0, 0, 0])
    packet = slow.ipv6(A6, B6, 60, options + slow.tcp(5, ACK, b"abcdef"))
    first, second = split(Header(NEEDS_CSUM, GSO_TCPV6, 0, 3, 48, 16), packet)
    for one, data in ((first, b"abc"), (second, b"def")):
        assert one[40:48] == options
        assert one[68:] == data
        assert slow.checksum(slow.pseudo(A6, B6, TCP, 23) + one[48:]) == 0
        assert addresses(one) == (A6, B6)


def test_a_full_super_packet_of_64_kib_is_cut(slow: SimpleNamespace) -> None:
    payload = bytes(range(256)) * 255
    packet = slow.ipv4(A4, B4, TCP, slow.tcp(1, ACK | PSH, payload))
    segments = split(Header(NEEDS_CSUM, GSO_TCPV4, 40, 1400, 20, 16), packet)
    assert len(segments) == -(-len(payload) // 1400)
    assert b"".join(bytes(one[40:]) for one in segments) == payload


def test_sequence_number_and_identification_wrap(slow: SimpleNamespace) -> None:
    packet = slow.ipv4(A4, B4, TCP, slow.tcp(2**32 - 4, ACK, b"abcdefghi"), identification=0xFFFF)
    segments = split(Header(NEEDS_CSUM, GSO_TCPV4, 40, 3, 20, 16), packet)
    assert [int.from_bytes(one[24:28]) for one in segments] == [2**32 - 4, 2**32 - 1, 2]
    assert [int.from_bytes(one[4:6]) for one in segments] == [0xFFFF, 0, 1]
    for one in segments:
        assert_checksums_are_right(slow, bytes(one))


def test_without_data_there_is_one_segment(slow: SimpleNamespace) -> None:
    packet = slow.ipv4(A4, B4, TCP, slow.tcp(1, ACK | FIN, b""))
    (only,) = split(Header(NEEDS_CSUM, GSO_TCPV4, 40, 1400, 20, 16), packet)
    assert_checksums_are_right(slow, bytes(only))
    assert only[33] == ACK | FIN


GOOD = Header(NEEDS_CSUM, GSO_TCPV4, 40, 10, 20, 16)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(GOOD._replace(gso_size=0), id="no size"),
        pytest.param(GOOD._replace(gso_type=GSO_TCPV6), id="the other family"),
        pytest.param(GOOD._replace(gso_type=GSO_UDP_L4), id="another protocol"),
        pytest.param(GOOD._replace(gso_type=3), id="UFO, never offered"),
        pytest.param(GOOD._replace(gso_type=0x7F), id="no such type"),
        pytest.param(GOOD._replace(csum_start=24), id="another start"),
    ],
)
def test_a_header_that_does_not_fit_the_packet_gives_nothing(slow: SimpleNamespace, header: Header) -> None:
    packet = slow.ipv4(A4, B4, TCP, slow.tcp(1, ACK, bytes(30)))
    assert len(split(GOOD, packet)) == 3
    assert split(header, packet) == []


def test_a_broken_packet_gives_nothing(slow: SimpleNamespace) -> None:
    good = slow.tcp(1, ACK, bytes(30))
    whole = slow.ipv4(A4, B4, TCP, good)
    broken = {
        "cut": whole[:-1],
        "longer": whole + b"\0",
        "header cut": slow.ipv4(A4, B4, TCP, good[:19]),
        "data offset too small": slow.ipv4(A4, B4, TCP, good[:12] + b"\x40" + good[13:]),
        "data offset too large": slow.ipv4(A4, B4, TCP, good[:12] + b"\xf0" + good[13:]),
        "first fragment": slow.ipv4(A4, B4, TCP, good, flags=0x2000),
        "later fragment": slow.ipv4(A4, B4, TCP, good, flags=5),
        "empty": b"",
    }
    assert {name: split(GOOD, packet) for name, packet in broken.items()} == {name: [] for name in broken}
    short = slow.ipv4(A4, B4, UDP, b"1234567")
    assert split(Header(NEEDS_CSUM, GSO_UDP_L4, 0, 3, 20, 6), short) == []


def test_the_transport_is_found_where_the_header_gives_no_start(slow: SimpleNamespace) -> None:
    packet = slow.ipv4(A4, B4, TCP, slow.tcp(1, ACK, bytes(30)))
    assert split(Header(0, GSO_TCPV4, 0, 10), packet) == split(GOOD, packet)


@given(st.binary(min_size=HEADER_BYTES, max_size=200), st.booleans(), st.sampled_from([0x45, 0x60]))
def test_any_header_before_any_bytes_is_data(data: bytes, plausible: bool, first: int) -> None:
    header = parse(data)
    assert header is not None
    packet = bytearray(data[HEADER_BYTES:])
    if plausible and len(packet) >= 20:
        packet[0] = first
        packet[9 if first == 0x45 else 6] = TCP if data[0] & 2 else UDP
        packet[2:4] = len(packet).to_bytes(2)
        if first == 0x60:
            packet[4:6] = max(len(packet) - 40, 0).to_bytes(2)
        start = 20 if first == 0x45 else 40
        header = header._replace(
            gso_type=header.gso_type % 6, csum_start=start, gso_size=header.gso_size % 64
        )
    finished = finish(header, packet)
    assert finished is None or len(finished) == len(packet)
    if header.gso_type & ~GSO_ECN != GSO_NONE:
        assert all(addresses(one) for one in split(header, packet))
