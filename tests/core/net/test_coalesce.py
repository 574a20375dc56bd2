"""What is joined comes apart again as the same bytes: by `gso.split` here, by the kernel in `test_coalesce_kernel`."""

from __future__ import annotations

import random
from collections import defaultdict
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.net.coalesce import MAX_BYTES, MAX_SEGMENTS, group, join
from tulle.net.gso import GSO_TCPV4, GSO_TCPV6, HEADER_BYTES, NEEDS_CSUM, PLAIN, Header, parse, split
from tulle.net.packet import ICMP, TCP, UDP, addresses

A4, B4, C4 = bytes([10, 5, 1, 2]), bytes([10, 5, 2, 3]), bytes([10, 5, 2, 4])
A6, B6 = bytes.fromhex("fd00") + bytes(13) + b"\x01", bytes.fromhex("fd00") + bytes(13) + b"\x02"
PAIRS = ((A4, B4), (A4, C4), (A6, B6))
FIN, SYN, PSH, ACK, ECE = 0x01, 0x02, 0x08, 0x10, 0x40
DONT_FRAGMENT = 0x4000
AUTHENTICATION = 51  # a protocol that may hide TCP


def mended(slow: SimpleNamespace, packet: bytes) -> bytes:
    """With right checksums."""
    start = 20 if packet[0] >> 4 == 4 else 40
    found = addresses(packet)
    assert found is not None
    if start == 20:
        head = packet[:10] + b"\0\0" + packet[12:20]
        packet = head[:10] + slow.checksum(head).to_bytes(2) + head[12:] + packet[20:]
    body = packet[start : start + 16] + b"\0\0" + packet[start + 18 :]
    check = slow.checksum(slow.pseudo(*found, TCP, len(body)) + body)
    return bytes(packet[:start] + body[:16] + check.to_bytes(2) + body[18:])


def segment(
    slow: SimpleNamespace,
    pair: tuple[bytes, bytes] = (A4, B4),
    sequence: int = 1,
    payload: bytes = b"12345678",
    tcp_flags: int = ACK,
    option_words: int = 0,
    identification: int = 1,
) -> bytes:
    """A right TCP packet."""
    body = slow.tcp(sequence % 2**32, tcp_flags, payload, option_words)
    if len(pair[0]) == 4:
        fields = {"identification": identification % 2**16, "flags": DONT_FRAGMENT}
        return mended(slow, slow.ipv4(*pair, TCP, body, **fields))
    return mended(slow, slow.ipv6(*pair, TCP, body))


def stream(
    slow: SimpleNamespace,
    count: int,
    pair: tuple[bytes, bytes] = (A4, B4),
    sequence: int = 1,
    size: int = 8,
    identification: int = 1,
    option_words: int = 0,
) -> list[bytes]:
    """Segments that follow each other."""
    data = random.Random(count)
    return [
        segment(
            slow,
            pair,
            sequence + number * size,
            data.randbytes(size),
            identification=identification + number,
            option_words=option_words,
        )
        for number in range(count)
    ]


def written(segments: list[bytes]) -> tuple[Header, bytes]:
    """What the TUN gets: header and packet."""
    frame = b"".join(join(segments))
    header = parse(frame)
    assert header is not None
    return header, frame[HEADER_BYTES:]


def assert_comes_apart(segments: list[bytes]) -> None:
    assert [bytes(one) for one in split(*written(segments))] == segments


def altered(packet: bytes, at: int, bit: int = 1) -> bytes:
    return packet[:at] + bytes([packet[at] ^ bit]) + packet[at + 1 :]


@pytest.mark.parametrize("pair", [(A4, B4), (A6, B6)])
@pytest.mark.parametrize("option_words", [0, 3, 10])
@pytest.mark.parametrize("size", [1, 7, 1400])
def test_a_stream_becomes_one_super_packet(
    slow: SimpleNamespace, pair: tuple[bytes, bytes], option_words: int, size: int
) -> None:
    packets = stream(slow, 40, pair, size=size, option_words=option_words)
    assert group(packets) == [packets]
    header, packet = written(packets)
    start, kind = (20, GSO_TCPV4) if len(pair[0]) == 4 else (40, GSO_TCPV6)
    assert header == Header(NEEDS_CSUM, kind, start + 20 + 4 * option_words, size, start, 16)
    assert addresses(packet) == pair
    if start == 20:
        assert slow.checksum(packet[:20]) == 0
    body = packet[start:]
    pseudo = slow.checksum(slow.pseudo(*pair, TCP, len(body))) ^ 0xFFFF
    assert int.from_bytes(body[16:18]) == pseudo
    assert_comes_apart(packets)


def test_a_packet_alone_is_written_as_it_is(slow: SimpleNamespace) -> None:
    packet = segment(slow)
    assert group([packet]) == [[packet]]
    pieces = join([packet])
    assert pieces == [PLAIN, packet]
    assert pieces[1] is packet


@pytest.mark.parametrize("last", [{"payload": b"abc"}, {"tcp_flags": ACK | PSH}])
def test_the_last_may_be_shorter_or_pushed_and_nothing_follows_it(
    slow: SimpleNamespace, last: dict[str, bytes | int]
) -> None:
    first, second = stream(slow, 2)
    third = segment(slow, sequence=17, identification=3, **last)  # type: ignore[arg-type]
    for size in (3, 8):
        fourth = segment(slow, sequence=17 + size, identification=4)
        assert group([first, second, third, fourth]) == [[first, second, third], [fourth]]
    assert_comes_apart([first, second, third])


def test_numbers_that_wrap_come_apart_the_same(slow: SimpleNamespace) -> None:
    by_sequence = stream(slow, 6, sequence=2**32 - 16)
    assert group(by_sequence) == [by_sequence[:2], by_sequence[2:]]
    by_identification = stream(slow, 6, identification=2**16 - 2)
    assert group(by_identification) == [by_identification]
    assert_comes_apart(by_identification)


FOLLOWS = {"sequence": 9, "identification": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 10},
        {"sequence": 1},
        {"identification": 1},
        {"identification": 3},
        {"payload": b"123456789"},
        {"payload": b""},
        {"tcp_flags": ACK | FIN},
        {"tcp_flags": ACK | ECE},
        {"tcp_flags": SYN},
        {"option_words": 1},
    ],
    ids=str,
)
def test_a_segment_that_does_not_follow_stays_alone(
    slow: SimpleNamespace, changes: dict[str, int | bytes]
) -> None:
    first, good = stream(slow, 2)
    assert group([first, good]) == [[first, good]]
    other = segment(slow, **{**FOLLOWS, **changes})  # type: ignore[arg-type]
    assert group([first, other]) == [[first], [other]]


@pytest.mark.parametrize(
    ("at", "bit"),
    {
        "type of service": (1, 1),
        "don't fragment": (6, 0x40),
        "more fragments": (6, 0x20),
        "fragment offset": (7, 1),
        "time to live": (8, 1),
        "acknowledgement": (31, 1),
        "reserved bits": (32, 1),
        "window": (35, 1),
        "urgent pointer": (39, 1),
    }.values(),
)
def test_a_header_that_differs_otherwise_is_not_joined(slow: SimpleNamespace, at: int, bit: int) -> None:
    first, second = stream(slow, 2)
    other = mended(slow, altered(second, at, bit))
    assert other != second
    assert group([first, other]) == [[first], [other]]


@pytest.mark.parametrize(("at", "bit"), [(6, 0x20), (7, 1), (32, 1), (33, ECE), (33, PSH)])
def test_a_first_one_that_may_not_lead_stays_alone(slow: SimpleNamespace, at: int, bit: int) -> None:
    packets = [mended(slow, altered(one, at, bit)) for one in stream(slow, 2)]
    assert group(packets) == [[one] for one in packets]


@pytest.mark.parametrize("pair", [(A4, B4), (A6, B6)])
@pytest.mark.parametrize("spoilt", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [7, 8])
def test_wrong_checksums_arrive_as_they_were_sent(
    slow: SimpleNamespace, pair: tuple[bytes, bytes], spoilt: int, size: int
) -> None:
    good = stream(slow, 4, pair, size=size)
    places = [-1, len(good[0]) - size - 3] + ([11] if len(pair[0]) == 4 else [])
    for at in places:
        packets = list(good)
        packets[spoilt] = altered(good[spoilt], at % len(good[0]))
        found = [list(map(bytes, run)) for run in group(packets)]
        assert [one for run in found for one in run] == packets
        assert [packets[spoilt]] in found


def test_two_wrong_checksums_do_not_make_up_for_each_other(slow: SimpleNamespace) -> None:
    first, second = stream(slow, 2)
    network, transport = int.from_bytes(second[10:12]), int.from_bytes(second[36:38])
    wrong = (
        second[:10] + (network - 1).to_bytes(2) + second[12:36] + (transport + 1).to_bytes(2) + second[38:]
    )
    assert group([first, wrong]) == [[first], [wrong]]


def test_checksums_of_all_ones_arrive_as_they_were_sent(slow: SimpleNamespace) -> None:
    """They are right, but the kernel would write 0."""
    first, second = stream(slow, 2)
    zero = mended(slow, second[:40] + b"\0\0" + second[42:])
    missing = zero[36:38]
    tcp_ones = mended(slow, zero[:40] + missing + zero[42:])
    assert tcp_ones[36:38] == b"\0\0"
    assert group([first, tcp_ones]) == [[first, tcp_ones]]
    tcp_ones = tcp_ones[:36] + b"\xff\xff" + tcp_ones[38:]
    assert group([first, tcp_ones]) == [[first], [tcp_ones]]

    source = A4[:2] + mended(slow, second[:14] + b"\0\0" + second[16:])[10:12]
    first, ip_ones = stream(slow, 2, (source, B4))
    assert ip_ones[10:12] == b"\0\0"
    assert group([first, ip_ones]) == [[first, ip_ones]]
    ip_ones = ip_ones[:10] + b"\xff\xff" + ip_ones[12:]
    assert group([first, ip_ones]) == [[first], [ip_ones]]


def test_a_super_packet_has_at_most_64_kib_and_512_segments(slow: SimpleNamespace) -> None:
    large = stream(slow, 50, size=1400)
    first, second = (list(map(bytes, run)) for run in group(large))
    assert first + second == large
    assert len(written(first)[1]) <= MAX_BYTES < len(written(first)[1]) + 1400
    small = stream(slow, MAX_SEGMENTS + 3, size=1)
    assert [len(one) for one in group(small)] == [MAX_SEGMENTS, 3]
    assert_comes_apart(small[:MAX_SEGMENTS])


def test_other_protocols_pass_between_the_segments_of_a_stream(slow: SimpleNamespace) -> None:
    first, second = stream(slow, 2)
    for protocol in (UDP, ICMP):
        other = slow.ipv4(A4, B4, protocol, bytes(8))
        assert group([first, other, second]) == [[first, second], [other]]


def test_what_may_be_of_the_same_flow_is_not_overtaken(slow: SimpleNamespace) -> None:
    first, second = stream(slow, 2)
    hidden = [
        segment(slow, sequence=9, payload=b""),
        slow.ipv4(A4, B4, TCP, slow.tcp(9, ACK, b"x"), options=1),
        slow.ipv4(A4, B4, AUTHENTICATION, bytes(24)),
        slow.ipv6(A6, B6, 60, bytes([TCP, 0, 1, 4, 0, 0, 0, 0]) + slow.tcp(9, ACK, b"x")),
        slow.ipv4(A4, B4, TCP, b"\0\0"),
    ]
    for one in hidden[:-1]:
        assert group([first, one, second]) == [[first], [one], [second]]
    assert group([hidden[-1]]) == [[hidden[-1]]]


def flow_of(packet: bytes) -> bytes:
    return bytes(packet[12:24] if packet[0] == 0x45 else packet[8:44])


MISHAPS = ("lost", "twice", "late", "spoilt", "pushed", "shorter", "empty")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(PAIRS), st.integers(1, 12), st.integers(1, 40), st.integers(0, 3), st.booleans()
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda one: one[0],
    ),
    st.lists(st.tuples(st.sampled_from(MISHAPS), st.integers(0, 99)), max_size=4),
    st.randoms(use_true_random=False),
    st.sampled_from([bytes, bytearray, memoryview]),
)
def test_whatever_is_joined_comes_apart_as_the_same_bytes_in_the_same_order(
    slow: SimpleNamespace,
    flows: list[tuple[tuple[bytes, bytes], int, int, int, bool]],
    mishaps: list[tuple[str, int]],
    rng: random.Random,
    kind: type,
) -> None:
    queues = [
        stream(slow, count, pair, 2**32 - 50 if wraps else 5, size, 2**16 - 3 if wraps else 1, options)
        for pair, count, size, options, wraps in flows
    ]
    packets = []
    while any(queues):
        packets.append(rng.choice([queue for queue in queues if queue]).pop(0))
    for mishap, place in mishaps:
        packets = _with_mishap(slow, packets, mishap, place)
    groups = [[bytes(one) for one in run] for run in group([kind(one) for one in packets])]
    came: dict[bytes, list[bytes]] = defaultdict(list)
    for run in groups:
        for one in split(*written(run)):
            came[flow_of(bytes(one))].append(bytes(one))
        assert_comes_apart(run)
    wanted: dict[bytes, list[bytes]] = defaultdict(list)
    for one in packets:
        wanted[flow_of(one)].append(one)
    assert came == wanted
    if not mishaps and all(not wraps for *_, wraps in flows):
        assert len(groups) == len(flows)


def _with_mishap(slow: SimpleNamespace, packets: list[bytes], mishap: str, place: int) -> list[bytes]:
    if not packets:
        return packets
    at = place % len(packets)
    one = packets[at]
    start = 20 if one[0] == 0x45 else 40
    end = start + (one[start + 12] >> 4) * 4
    if mishap in ("shorter", "empty"):
        left = one[: end if mishap == "empty" else max(end, len(one) - 1)]
        field, size = (2, len(left)) if start == 20 else (4, len(left) - 40)
        changed = [mended(slow, left[:field] + size.to_bytes(2) + left[field + 2 :])]
    elif mishap == "pushed":
        changed = [mended(slow, one[: start + 13] + bytes([one[start + 13] | PSH]) + one[start + 14 :])]
    else:
        changed = {
            "lost": [],
            "twice": [one, one],
            "late": [],
            "spoilt": [altered(one, (start + 4 + place) % len(one))],
        }[mishap]
    late = [one] if mishap == "late" else []
    return packets[:at] + changed + packets[at + 1 :] + late


@given(st.lists(st.binary(max_size=120), max_size=6), st.sampled_from([0x45, 0x46, 0x60]))
def test_any_whole_packets_are_data(bodies: list[bytes], first: int) -> None:
    packets = []
    for body in bodies:
        packet = bytearray(bytes([first]) + body)
        size = len(packet) - (0 if first < 0x60 else 40)
        if len(packet) < 40:
            continue
        packet[2 if first < 0x60 else 4 : 4 if first < 0x60 else 6] = size.to_bytes(2)
        packet[9 if first < 0x60 else 6] = TCP
        packets.append(bytes(packet))
    found = [list(map(bytes, run)) for run in group(packets)]
    assert sorted(one for run in found for one in run) == sorted(packets)
    for run in found:
        assert_comes_apart(run)
