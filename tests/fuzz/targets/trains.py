"""Datagrams that leave and arrive as trains: what the kernel cuts is what was to be sent."""

from __future__ import annotations

import socket

from fuzz.bites import Bites
from tulle.forward.udp_batch import MAX_RUN_BYTES, MAX_SEGMENTS, runs
from tulle.net.trains import UDP_GRO, segment_size

LIMIT = 300
"""Datagrams of an input."""
SEEDS = [
    b"\0\0" + (b"\x05\x78" * 6 + b"\x00\x10"),
    b"\0\4\x78\x05\0\0" + b"\xff\xff\x00\x01" * 4,
    b"\0\1\x01" + b"\x00\x00" * 5 + b"\x00\x02",
    b"\0\0" + b"\x00\x64" * 130,
]


def target(data: bytes) -> None:
    """A piece is what comes beside a datagram as UDP_GRO; the rest are the datagrams' lengths."""
    bites = Bites(data)
    said = bites.piece()
    size = segment_size([(socket.SOL_UDP, UDP_GRO, said)])
    assert 0 <= size < 1 << 32
    lengths = bites.rest()
    sizes = [int.from_bytes(lengths[at : at + 2]) for at in range(0, len(lengths), 2)][:LIMIT]
    datagrams = [(bytes([index & 255]) * one,) for index, one in enumerate(sizes)]
    found = runs(datagrams)
    assert [behind for _, behind, _ in found[:-1]] == [first for first, _, _ in found[1:]]
    assert [(found[0][0], found[-1][1])] == [(0, len(sizes))] if found else not sizes
    for first, behind, step in found:
        train = b"".join(one for datagram in datagrams[first:behind] for one in datagram)
        if behind - first > 1:
            assert behind - first <= MAX_SEGMENTS
            assert len(train) <= MAX_RUN_BYTES
            cut = [
                train[at : at + step] for at in range(0, len(train), step)
            ]  # as udp(7) says of UDP_SEGMENT
            assert cut == [one for (one,) in datagrams[first:behind]]
