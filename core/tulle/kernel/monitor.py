"""Wakes when somebody changed links, addresses or routes in this network namespace, or neighbours and FDB entries where
that matters: pods' own come and go all the time."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from tulle.kernel.watch import DEBOUNCE_S, NetlinkWatch

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


class Monitor(NetlinkWatch):
    """See the module and `watch`."""

    def __init__(
        self,
        wake: Callable[[], object],
        debounce_s: float = DEBOUNCE_S,
        *,
        entries_of: Callable[[int], bool] = lambda index: False,
    ) -> None:
        """`entries_of`: whether the neighbours and FDB entries of a link, by index, matter. Raises OSError where
        there is no socket to be had."""
        flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        opened = socket.socket(socket.AF_NETLINK, flags, socket.NETLINK_ROUTE)
        try:
            opened.bind((0, GROUPS))
        except OSError:
            opened.close()
            raise
        self._entries_of = entries_of
        super().__init__(opened, wake, debounce_s, start_bytes=START.size, matters=self._is_ours)

    def _is_ours(self, start: bytes) -> bool:
        if len(start) < START.size:
            return True
        kind, index = START.unpack(start)
        return kind not in (RTM_NEWNEIGH, RTM_DELNEIGH) or self._entries_of(index)
