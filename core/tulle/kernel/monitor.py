"""Wakes when somebody changed links, addresses or routes in this network namespace, or neighbours and FDB entries where
that matters: pods' own come and go all the time.

What happened is not decoded: the answer is always to compare all that is wanted with all that is there. So a full
buffer (ENOBUFS) loses nothing, and between two wake-ups the socket is not read at all: a routing daemon that moves
a million routes costs one wake-up each 50 ms.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

# linux/rtnetlink.h
RTMGRP_LINK = 0x1
RTMGRP_NEIGH = 0x4
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV4_ROUTE = 0x40
RTMGRP_IPV6_IFADDR = 0x100
RTMGRP_IPV6_ROUTE = 0x400
GROUPS = (
    RTMGRP_LINK
    | RTMGRP_NEIGH
    | RTMGRP_IPV4_IFADDR
    | RTMGRP_IPV4_ROUTE
    | RTMGRP_IPV6_IFADDR
    | RTMGRP_IPV6_ROUTE
)

START = struct.Struct("=4xH10x4xi")
"""Of a message about a neighbour: struct nlmsghdr with its type, struct ndmsg as far as the link's index."""
RTM_NEWNEIGH, RTM_DELNEIGH = 28, 29

DEBOUNCE_S = 0.05

DRAIN_MAX = 10_000
"""Messages read at one wake-up; what is left wakes again. A full buffer of 212,992 bytes holds fewer than 1,000."""


class Monitor:
    """Calls `wake()` in the running loop after a change, soon after the first of a burst and then at most every
    `debounce_s` seconds. Our own changes wake it as well: the reconcile that follows finds nothing to do."""

    def __init__(
        self,
        wake: Callable[[], object],
        debounce_s: float = DEBOUNCE_S,
        *,
        entries_of: Callable[[int], bool] = lambda index: False,
    ) -> None:
        """`entries_of`: whether the neighbours and FDB entries of a link, by index, matter. Raises OSError where
        there is no socket to be had. Call it in the loop that is to be woken."""
        self._wake = wake
        self._entries_of = entries_of
        self._debounce_s = debounce_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
        )
        try:
            self._socket.bind((0, GROUPS))
            self._listen()
        except BaseException:
            self._socket.close()
            raise

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
                start = self._socket.recv(START.size)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: messages were lost, which says all that we ask
                return True
            happened = happened or self._matters(start)
        return happened

    def _matters(self, start: bytes) -> bool:
        if len(start) < START.size:
            return True
        kind, index = START.unpack(start)
        return kind not in (RTM_NEWNEIGH, RTM_DELNEIGH) or self._entries_of(index)
