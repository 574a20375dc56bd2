"""The pure functions that each packet meets."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmarks.rig import packet
from tulle.contracts.encapsulation import PathId, PeerId
from tulle.forward.udp_batch import runs
from tulle.net import coalesce, gso, icmp
from tulle.net.checksum import checksum
from tulle.net.packet import TCP, addresses
from tulle.net.prefix import parse_prefix, prefix_from_int
from tulle.net.table import PrefixTable
from tulle_udp.encapsulation import PlainUdp

Benchmark = Any
"""pytest-benchmark's fixture; the package has no types."""

PREFIXES = 20_000
SIZE = 1400
SUPER_BYTES = 65_160
"""Of a TCP super-packet: 45 segments of 1,448 bytes."""


@pytest.fixture(scope="module")
def table() -> PrefixTable[int]:
    found: PrefixTable[int] = PrefixTable()
    found.insert(parse_prefix("10.0.0.0/8"), -1)
    for number in range(PREFIXES):
        found.insert(prefix_from_int(4, (10 << 24) + (number << 8), 24), number)
    return found


def test_look_up_a_destination_among_20000_prefixes(benchmark: Benchmark, table: PrefixTable[int]) -> None:
    assert benchmark(table.lookup, bytes([10, 39, 16, 7])) == (39 << 8) + 16


def test_read_the_addresses_of_a_packet(benchmark: Benchmark) -> None:
    assert benchmark(addresses, packet("10.1.0.2", "10.2.0.2", SIZE)) == (
        bytes([10, 1, 0, 2]),
        bytes([10, 2, 0, 2]),
    )


def test_checksum_1400_bytes(benchmark: Benchmark) -> None:
    assert benchmark(checksum, b"\x01\x00" * (SIZE // 2)) == 0xFFFF - 0x0100 * (SIZE // 2) % 0xFFFF


def super_packet() -> tuple[gso.Header, bytes]:
    """What a pod with TCP segmentation offload writes."""
    inner = bytearray(packet("10.1.0.2", "10.2.0.2", 40 + SUPER_BYTES))
    inner[9] = TCP
    inner[20:40] = bytes(12) + bytes([5 << 4, 0x10]) + bytes(6)
    header = gso.Header(gso.NEEDS_CSUM, gso.GSO_TCPV4, 40, 1448, 20, gso.TCP_CSUM_OFFSET)
    return header, bytes(inner)


def test_split_a_super_packet_of_45_segments(benchmark: Benchmark) -> None:
    header, inner = super_packet()
    made = benchmark(gso.split, header, inner)
    benchmark.extra_info.update(each="segment", count=len(made))
    assert [len(one) for one in made] == [1488] * 45


def test_join_45_segments(benchmark: Benchmark) -> None:
    segments = [bytes(one) for one in gso.split(*super_packet())]

    def joined() -> list[int]:
        return [len(coalesce.join(run)) for run in coalesce.group(segments)]

    made = benchmark(joined)
    benchmark.extra_info.update(each="segment", count=len(segments))
    assert made == [2 + 45]


def test_find_nothing_to_join_in_64_datagrams(benchmark: Benchmark) -> None:
    packets = [packet("10.1.0.2", "10.2.0.2", 92)] * 64
    found = benchmark(coalesce.group, packets)
    benchmark.extra_info.update(each="packet", count=64)
    assert len(found) == 64


def test_answer_unreachable(benchmark: Benchmark) -> None:
    answer = benchmark(icmp.unreachable, packet("10.1.0.2", "10.2.0.2", SIZE), bytes([10, 1, 0, 0]))
    assert len(answer) == icmp.IPV4_ERROR_LIMIT_BYTES


def test_find_the_runs_of_64_equal_datagrams(benchmark: Benchmark) -> None:
    datagrams = [(bytes(SIZE),)] * 64
    found = benchmark(runs, datagrams)
    benchmark.extra_info.update(each="datagram", count=64)
    assert found == [(0, 46, SIZE), (46, 64, SIZE)]


class OnePeer:
    """Paths with one peer behind all of them."""

    def peers_at(self, path: PathId) -> frozenset[PeerId]:
        return frozenset({PeerId(1)})


def test_seal_64_packets_as_plain_udp(benchmark: Benchmark) -> None:
    plain = PlainUdp(OnePeer(), bytes)
    plain.set_peer(PeerId(1), [PathId(7)], {}, 0.0)
    packets = [bytes(SIZE)] * 64
    sealed = benchmark(plain.seal, PeerId(1), packets, 0.0)
    benchmark.extra_info.update(each="packet", count=64)
    assert [(path, Counter(map(len, datagrams))) for path, datagrams in sealed] == [(7, {1: 64})]


def test_open_64_datagrams_of_plain_udp(benchmark: Benchmark) -> None:
    plain = PlainUdp(OnePeer(), bytes)
    datagrams = [bytes(SIZE)] * 64
    opened = benchmark(plain.open, PathId(7), datagrams, 0.0)
    benchmark.extra_info.update(each="datagram", count=64)
    assert [len(packets) for _, packets in opened.deliveries] == [64]
