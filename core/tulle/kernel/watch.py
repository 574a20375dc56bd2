"""Wakes when the kernel tells of a change on a netlink socket (netlink(7)).

What happened is not decoded: the answer is always to compare all that is wanted with all that is there. So a full
buffer (ENOBUFS) loses nothing, and between two wake-ups the socket is not read at all: a routing daemon that moves
a million routes costs one wake-up each 50 ms.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

DEBOUNCE_S = 0.05

DRAIN_MAX = 10_000
"""Messages read at one wake-up; what is left wakes again. A full buffer of 212,992 bytes holds fewer than 1,000."""


class NetlinkWatch:
    """Calls `wake()` in the running loop after a change, soon after the first of a burst and then at most every
    `debounce_s` seconds. Our own changes wake it as well: the reconcile that follows finds nothing to do."""

    def __init__(
        self,
        opened: socket.socket,
        wake: Callable[[], object],
        debounce_s: float = DEBOUNCE_S,
        *,
        start_bytes: int = 1,
        matters: Callable[[bytes], bool] = lambda start: True,
    ) -> None:
        """Takes over a socket that does not block and is in its groups. `matters` is given the first `start_bytes`
        of each message. Call it in the loop that is to be woken."""
        self._socket = opened
        self._wake = wake
        self._debounce_s = debounce_s
        self._start_bytes = start_bytes
        self._matters = matters
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """No wake-up comes after this. May be called twice."""
        if self._socket.fileno() < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _listen(self) -> None:
        self._timer = None
        self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        """Drains first: a change that comes after that wakes again."""
        if not self._drain():
            return
        self._loop.remove_reader(self._socket)
        self._timer = self._loop.call_later(self._debounce_s, self._listen)
        self._wake()

    def _drain(self) -> bool:
        """Whether anything happened. The beginning of each message is enough: the kernel drops the rest."""
        happened = False
        for _ in range(DRAIN_MAX):
            try:
                start = self._socket.recv(self._start_bytes)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: messages were lost, which says all that we ask
                return True
            happened = happened or self._matters(start)
        return happened
