"""One rtnetlink socket for entries by the thousand: many changes in one system call, dumps in large pieces.

The kernel answers before `send` returns, so nothing here waits; between pieces the loop gets its turn.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence

from tulle.kernel.rtwire import NLM_F_ACK, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, Answer, Message, answers

SOL_NETLINK = 270  # linux/socket.h
NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK = 10, 12  # linux/netlink.h

BATCH = 100
"""Messages a system call. Each can be answered with an error of its own, and the default receive buffer of 212,992
bytes holds more than 200 of those (the kernel counts about 770 bytes for one)."""

PIECE_BYTES = 256 * 1024
"""What one read may return. The kernel fills up to 32 KiB at a time (netlink_dump in net/netlink/af_netlink.c)."""

MAX_READS = 10
"""Of one listing that changes while it is read."""


class RouteSocket:
    """Opened when it is first used. Callers take turns. Raises OSError where the kernel cannot be asked at all."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        """`protocol`: NETLINK_ROUTE, or another that speaks in the same way (netlink(7))."""
        self._protocol = protocol
        self._socket: socket.socket | None = None
        self._sequence = 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def apply(self, messages: Sequence[Message]) -> list[int]:
        """Carry them out in order. For each 0, or the errno with which the kernel refused."""
        codes: list[int] = []
        for start in range(0, len(messages), BATCH):
            codes += self._apply(messages[start : start + BATCH])
            await asyncio.sleep(0)
        return codes

    def _apply(self, messages: Sequence[Message]) -> list[int]:
        """Only the last one asks for an acknowledgement: errors are told in any case."""
        first = self._sequence + 1
        self._sequence += len(messages)
        last = self._sequence
        packed = [
            one.packed(number, NLM_F_ACK if number == last else 0)
            for number, one in enumerate(messages, first)
        ]
        codes = [0] * len(messages)
        try:
            self._open().send(b"".join(packed))
            while True:
                for answer in self._receive():
                    if answer.type == NLMSG_ERROR and first <= answer.sequence <= last:
                        codes[answer.sequence - first] = answer.code
                        if answer.sequence == last:
                            return codes
        except OSError:
            self.close()  # answers may be left in it
            raise

    async def dump(self, message: Message, none_if: frozenset[int] = frozenset()) -> list[bytes]:
        """The bodies of all that the kernel lists. Where it answers with an errno of `none_if`, that is nothing."""
        for _ in range(MAX_READS):
            bodies = await self._dump(message, none_if)
            if bodies is not None:
                return bodies
        raise OSError(errno.EAGAIN, "the kernel's tables changed each time they were read; try again")

    async def _dump(self, message: Message, none_if: frozenset[int]) -> list[bytes] | None:
        """None: it changed while it was read."""
        self._sequence += 1
        bodies: list[bytes] = []
        changed = False
        try:
            self._open().send(message.packed(self._sequence))
            while True:
                for answer in self._receive():
                    if answer.sequence != self._sequence:
                        continue
                    changed = changed or bool(answer.flags & NLM_F_DUMP_INTR)
                    if answer.type in (NLMSG_DONE, NLMSG_ERROR):
                        if answer.code and answer.code not in none_if:
                            raise OSError(
                                answer.code, f"{os.strerror(answer.code)} (rtnetlink dump {message.type})"
                            )
                        return None if changed and not answer.code else bodies
                    bodies.append(answer.body)
                await asyncio.sleep(0)
        except BaseException:
            self.close()  # the rest of the dump would be left in it
            raise

    def _open(self) -> socket.socket:
        if self._socket is None:
            flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            opened = socket.socket(socket.AF_NETLINK, flags, self._protocol)
            try:
                opened.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
                opened.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
                opened.bind((0, 0))
            except BaseException:
                opened.close()
                raise
            self._socket = opened
        return self._socket

    def _receive(self) -> list[Answer]:
        """The kernel has answered already: that nothing is there is an error like others."""
        return list(answers(self._open().recv(PIECE_BYTES)))
