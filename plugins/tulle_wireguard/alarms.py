"""Which peer's timers run out next, among many. Pure.

Timers are mostly put off (each packet does it), so an alarm stays where it is and is looked at when it goes off; only
an earlier time makes a new one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from tulle_wireguard.peer import Peer
from tulle_wireguard.timers import IDLE


class Alarms:
    """A heap of (when, peer). An alarm may come too early, never too late."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Peer]] = []
        self._number = 0  # so that peers are never compared

    def set(self, peer: Peer) -> None:
        """After anything that may have started one of its timers."""
        due = peer.timers.deadline()
        if due < peer.wakes_at:
            peer.wakes_at = due
            self._number += 1
            heapq.heappush(self._heap, (due, self._number, peer))

    def due(self, now: float) -> Iterator[Peer]:
        """The peers to look at; each is to be `set` again afterwards."""
        while self._heap and self._heap[0][0] <= now:
            when, _, peer = heapq.heappop(self._heap)
            if when == peer.wakes_at and not peer.removed:  # else an earlier alarm has taken its place
                peer.wakes_at = IDLE
                yield peer

    def next(self) -> float:
        """Infinity where there is none."""
        return self._heap[0][0] if self._heap else IDLE
