"""Trains: datagrams of equal size in one message, to the kernel (UDP_SEGMENT) and from it (UDP_GRO). udp(7)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

SOL_UDP = 17  # linux/socket.h
UDP_SEGMENT = 103  # linux/udp.h
UDP_GRO = 104  # linux/udp.h


def segment_size(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    """Of a received train, in bytes; 0 where it is one datagram."""
    for level, kind, data in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            return int.from_bytes(data[:4], sys.byteorder)
    return 0
