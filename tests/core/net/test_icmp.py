"""ICMP errors: to whom, about what, how long, and never about an error."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.net.icmp import RateLimit, unreachable
from tulle.net.packet import ICMP, ICMPV6, TCP, UDP, addresses

POD4, FAR4, NODE4 = (ip_address(text).packed for text in ("10.5.1.2", "10.5.2.3", "10.5.1.0"))
POD6, FAR6, NODE6 = (ip_address(text).packed for text in ("fd00:1::2", "fd00:2::3", "fd00:1::"))
FAMILIES = pytest.mark.parametrize(("pod", "far", "node"), [(POD4, FAR4, NODE4), (POD6, FAR6, NODE6)])


def test_an_ipv4_sender_hears_network_unreachable(slow: SimpleNamespace) -> None:
    packet = slow.ipv4(POD4, FAR4, UDP, slow.udp(b"hello"))
    answer = unreachable(packet, NODE4)
    assert answer is not None
    assert addresses(answer) == (NODE4, POD4)
    assert answer[8:10] == bytes([64, ICMP])
    assert answer[20:22] == bytes([3, 0])
    assert answer[24:28] == bytes(4)
    assert answer[28:] == packet
    assert slow.checksum(answer[:20]) == slow.checksum(answer[20:]) == 0


def test_an_ipv6_sender_hears_no_route_to_destination(slow: SimpleNamespace) -> None:
    packet = slow.ipv6(POD6, FAR6, UDP, slow.udp(b"hello"))
    answer = unreachable(packet, NODE6)
    assert answer is not None
    assert addresses(answer) == (NODE6, POD6)
    assert answer[6:8] == bytes([ICMPV6, 64])
    assert answer[40:42] == bytes([1, 0])
    assert answer[48:] == packet
    body = answer[40:]
    assert slow.checksum(slow.pseudo(NODE6, POD6, ICMPV6, len(body)) + body) == 0


@pytest.mark.parametrize(
    ("pod", "far", "node", "limit"), [(POD4, FAR4, NODE4, 576), (POD6, FAR6, NODE6, 1280)]
)
def test_a_long_packet_is_quoted_up_to_the_limit(
    slow: SimpleNamespace, pod: bytes, far: bytes, node: bytes, limit: int
) -> None:
    packet = slow.ip(pod, far, TCP, slow.tcp(1, 16, bytes(range(250)) * 6))
    answer = unreachable(memoryview(packet), node)
    assert answer is not None
    assert len(answer) == limit
    quote = answer[28 if len(pod) == 4 else 48 :]
    assert packet.startswith(quote)


@pytest.mark.parametrize(
    ("kind", "answered"),
    [(3, False), (4, False), (5, False), (11, False), (12, False), (0, True), (8, True), (13, True)],
)
def test_an_icmp_error_is_never_answered_but_a_question_is(
    slow: SimpleNamespace, kind: int, answered: bool
) -> None:
    packet = slow.ipv4(POD4, FAR4, ICMP, bytes([kind]) + bytes(7))
    assert (unreachable(packet, NODE4) is not None) is answered


@pytest.mark.parametrize(
    ("kind", "answered"), [(1, False), (2, False), (127, False), (137, False), (128, True), (129, True)]
)
def test_an_icmpv6_error_or_redirect_is_never_answered(
    slow: SimpleNamespace, kind: int, answered: bool
) -> None:
    plain = slow.ipv6(POD6, FAR6, ICMPV6, bytes([kind]) + bytes(7))
    behind = slow.ipv6(POD6, FAR6, 60, bytes([ICMPV6]) + bytes(7) + bytes([kind]) + bytes(7))
    for packet in (plain, behind):
        assert (unreachable(packet, NODE6) is not None) is answered


@FAMILIES
def test_icmp_that_is_too_short_to_tell_is_not_answered(
    slow: SimpleNamespace, pod: bytes, far: bytes, node: bytes
) -> None:
    assert unreachable(slow.ip(pod, far, ICMP if len(pod) == 4 else ICMPV6, b""), node) is None


def test_only_the_first_fragment_is_answered(slow: SimpleNamespace) -> None:
    first, later = (slow.ipv4(POD4, FAR4, UDP, bytes(16), flags=word) for word in (0x2000, 0x2000 | 2))
    assert unreachable(first, NODE4) is not None
    assert unreachable(later, NODE4) is None
    first, later = (
        slow.ipv6(POD6, FAR6, 44, bytes([UDP, 0, 0, word]) + bytes(12)) for word in (1, 8 * 2 + 1)
    )
    assert unreachable(first, NODE6) is not None
    assert unreachable(later, NODE6) is None


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
     "::", "::1", "ff02::1", "ff0e::1"],
)  # fmt: skip
def test_nothing_is_answered_where_an_end_is_no_single_host(slow: SimpleNamespace, address: str) -> None:
    odd = ip_address(address).packed
    pod, node = (POD4, NODE4) if len(odd) == 4 else (POD6, NODE6)
    assert unreachable(slow.ip(odd, pod, UDP, slow.udp(b"x")), node) is None
    assert unreachable(slow.ip(pod, odd, UDP, slow.udp(b"x")), node) is None


@FAMILIES
def test_a_source_of_the_other_family_gives_nothing(
    slow: SimpleNamespace, pod: bytes, far: bytes, node: bytes
) -> None:
    packet = slow.ip(pod, far, UDP, slow.udp(b"x"))
    assert unreachable(packet, NODE6 if len(node) == 4 else NODE4) is None
    assert unreachable(packet, b"") is None
    assert unreachable(packet, node) is not None


@FAMILIES
def test_a_broken_packet_is_not_answered(slow: SimpleNamespace, pod: bytes, far: bytes, node: bytes) -> None:
    packet = slow.ip(pod, far, UDP, slow.udp(b"x"))
    assert unreachable(packet[:-1], node) is None
    assert unreachable(packet + b"\0", node) is None


@given(st.binary(max_size=1500), st.sampled_from([(0x45, NODE4), (0x60, NODE6)]), st.booleans())
def test_any_bytes_get_a_sound_answer_or_none(
    slow: SimpleNamespace, data: bytes, family: tuple[int, bytes], plausible: bool
) -> None:
    first, node = family
    packet = bytearray(data)
    if plausible and len(packet) >= 40:
        packet[0] = first
        if first == 0x45:
            packet[2:4] = len(packet).to_bytes(2)
        else:
            packet[4:6] = (len(packet) - 40).to_bytes(2)
    answer = unreachable(packet, node)
    if answer is not None:
        ends = addresses(answer)
        assert ends is not None
        assert ends[0] == node
        assert unreachable(answer, node) is None


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    limit = RateLimit(8, 3)
    assert [limit.allow(100.0) for _ in range(4)] == [True, True, True, False]
    assert not limit.allow(100.0625)
    assert limit.allow(100.125)
    assert not limit.allow(100.125)
    assert [limit.allow(1000.0) for _ in range(4)] == [True, True, True, False]


def test_time_that_runs_backwards_earns_nothing() -> None:
    limit = RateLimit(1, 1)
    assert limit.allow(50.0)
    assert not limit.allow(10.0)
    assert not limit.allow(50.5)
    assert limit.allow(51.0)


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 10, allow_nan=False), max_size=100))
def test_no_more_pass_than_burst_and_rate_allow(rate: float, burst: int, steps: list[float]) -> None:
    limit, now, passed = RateLimit(rate, burst), 0.0, 0
    for step in steps:
        now += step
        passed += limit.allow(now)
    assert passed <= burst + rate * now + 1e-6


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (float("nan"), 1), (1, 0)])
def test_a_limit_that_allows_nothing_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        RateLimit(rate, burst)
