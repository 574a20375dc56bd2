"""The wire: tulle's contract for every encapsulation, then what is our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

import pytest
from tulle.contracts.encapsulation import Encapsulation, PathId, Paths, PeerId
from tulle.testing.encapsulation_contract import EncapsulationContract, KnownPaths
from tulle.testing.packets import packet

from tulle_tagged.encapsulation import TAG_BYTES, Tagged, tag_start

PEER, PATH = PeerId(1), PathId(7)
INNER = packet("10.42.1.2", "10.42.2.2", b"hello")


class TestContract(EncapsulationContract):
    def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
        return Tagged(paths, random_bytes)

    def options_of(self, node: str) -> Mapping[str, Any]:
        return {"cluster": "blue"}


def end(cluster: str) -> Tagged:
    made = Tagged(KnownPaths(PEER), bytes)
    made.configure({"cluster": cluster}, 0.0)
    made.set_peer(PEER, [PATH], {}, 0.0)
    return made


def sealed(cluster: str) -> bytes:
    ((_, datagrams),) = end(cluster).seal(PEER, [INNER], 0.0)
    return b"".join(datagrams[0])


def dropped(datagram: bytes) -> dict[str, int]:
    """What an end of cluster "blue" counts when this comes; nothing may get through."""
    blue = end("blue")
    assert blue.open(PATH, [datagram], 0.0).deliveries == ()
    return {name: count for name, count in blue.counters().items() if count}


def test_a_datagram_is_the_tag_and_the_packet_as_it_was() -> None:
    start = bytes.fromhex("7467 01 00 72c20448")
    assert sealed("blue") == start + crc32(start + INNER).to_bytes(4, "big") + INNER


def test_a_packet_of_another_cluster_is_dropped_and_counted() -> None:
    assert dropped(sealed("green")) == {"drop-other-cluster": 1}


@pytest.mark.parametrize("datagram", [b"", INNER, b"\0" * TAG_BYTES, sealed("blue")[: TAG_BYTES - 1]])
def test_what_has_no_tag_is_dropped_and_counted(datagram: bytes) -> None:
    assert dropped(datagram) == {"drop-not-tagged": 1}


def test_every_damaged_bit_behind_the_cluster_is_found() -> None:
    whole = sealed("blue")
    for bit in range(len(tag_start("blue")) * 8, len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        assert dropped(bytes(damaged)) == {"drop-damaged": 1}


def test_good_packets_beside_bad_ones_are_delivered_in_order() -> None:
    opened = end("blue").open(PATH, [sealed("blue"), b"bad", sealed("green"), sealed("blue")], 0.0)
    assert list(opened.deliveries) == [(frozenset({PEER}), [INNER, INNER])]
