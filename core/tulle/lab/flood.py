"""UDP with sequence numbers: what the loss tests count with.

The receiver counts each number once, so that lost, repeated and overtaken datagrams are told apart, and separately
what its own socket had no room for: that is the tool's loss, not the network's.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Generator
from dataclasses import dataclass, field

HEADER = struct.Struct("!QQ")
"""The number of the run, the number of the datagram."""

RECEIVE_BUFFER_BYTES = 1 << 25  # as much of it as net.core.rmem_max allows
SO_RXQ_OVFL = 40  # include/uapi/asm-generic/socket.h
OVERFLOW = struct.Struct("=I")
ANCILLARY_BYTES = 64  # more than CMSG_SPACE of the one message that is asked for
TIMEVAL = struct.Struct("@ll")

MIN_SIZE = HEADER.size
BURST_S = 0.001
"""Datagrams that are due are sent together about this often: a sleep costs more than a send."""


@dataclass
class Tally:
    """What a receiver has seen of one run. Pure: time is an argument."""

    expected: int
    received: int = 0
    """Different numbers."""
    duplicates: int = 0
    reordered: int = 0
    """Arrived after a higher number."""
    foreign: int = 0
    """Of another run, or too short."""
    longest_gap_s: float = 0.0
    """Between two arrivals."""
    first_s: float | None = None
    last_s: float | None = None
    _highest: int = -1
    _seen: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._seen = bytearray(self.expected)

    def add(self, datagram: bytes, run: int, now: float) -> None:
        """Count one datagram that arrived at `now` (seconds, any clock that goes forward)."""
        number = -1
        if len(datagram) >= HEADER.size:
            found, number = HEADER.unpack_from(datagram)
            number = number if found == run else -1
        if not 0 <= number < self.expected:
            self.foreign += 1
            return
        if self.last_s is not None:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_s)
        self.first_s = now if self.first_s is None else self.first_s
        self.last_s = now
        if self._seen[number]:
            self.duplicates += 1
            return
        self._seen[number] = 1
        self.received += 1
        if number < self._highest:
            self.reordered += 1
        self._highest = max(self._highest, number)

    @property
    def complete(self) -> bool:
        return self.received == self.expected

    def report(self, socket_drops: int) -> dict[str, float]:
        duration = (self.last_s or 0.0) - (self.first_s or 0.0)
        return {
            "expected": self.expected,
            "received": self.received,
            "lost": self.expected - self.received,
            "duplicates": self.duplicates,
            "reordered": self.reordered,
            "foreign": self.foreign,
            "socket_drops": socket_drops,
            "longest_gap_ms": round(self.longest_gap_s * 1000, 3),
            "duration_s": round(duration, 6),
        }


def due(elapsed_s: float, rate: float, sent: int, count: int) -> int:
    """How many datagrams to send now so that `rate` a second are kept; 0 means as fast as possible."""
    wanted = count if rate <= 0 else min(count, int(elapsed_s * rate) + 1)
    return max(0, wanted - sent)


def send(address: str, port: int, *, count: int, rate: float, size: int, run: int) -> dict[str, float]:
    """Send `count` datagrams of `size` bytes. A full device queue is waited for, so "sent" reached the kernel."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    body = bytes(max(0, size - HEADER.size))
    sent, refused = 0, 0
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        out.connect((address, port))
        start = time.monotonic()
        while sent < count:
            for _ in range(due(time.monotonic() - start, rate, sent, count)):
                refused += send_one(out, HEADER.pack(run, sent) + body)
                sent += 1
            if sent < count and rate > 0:
                time.sleep(BURST_S)
        duration = time.monotonic() - start
    return {"sent": sent, "refused": refused, "duration_s": round(duration, 6)}


def send_one(out: socket.socket, datagram: bytes) -> int:
    """Returns 1 where the kernel refused the datagram for good. The ICMP error that an earlier datagram caused is
    reported on a later send (RFC 1122 section 4.1.3.3): that one is sent again."""
    while True:
        try:
            out.send(datagram)
        except ConnectionRefusedError:
            continue
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                return 1
            time.sleep(BURST_S)
        else:
            return 0


def receive(
    bind: str, port: int, *, count: int, run: int, drain_s: float, patience_s: float
) -> Generator[dict[str, float], None, None]:
    """Yields {"listening": port} when datagrams can come, and the report when all have come, when none came for
    `drain_s` after the first, or when there was none at all for `patience_s`."""
    tally, drops = Tally(count), 0
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        opened.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        opened.bind((bind, port))
        set_patience(opened, patience_s)
        yield {"listening": opened.getsockname()[1]}
        while not tally.complete:
            try:
                datagram, ancillary, _, _ = opened.recvmsg(65535, ANCILLARY_BYTES)
            except BlockingIOError:
                break
            tally.add(datagram, run, time.monotonic())
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                    (drops,) = OVERFLOW.unpack(data[: OVERFLOW.size])
            if tally.received == 1:
                set_patience(opened, drain_s)
    yield tally.report(drops)


def set_patience(opened: socket.socket, seconds: float) -> None:
    """A time-out kept by the kernel: Python's own costs a second system call for each datagram."""
    whole = int(seconds)
    opened.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEVAL.pack(whole, int((seconds - whole) * 1e6))
    )
