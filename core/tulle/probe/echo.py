"""A raw ICMP socket of one family: echo and timestamp requests out, replies and errors in.

Standard library only: the lab's traffic tool starts with it. Needs CAP_NET_RAW (raw(7)).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from tulle.net import echo
from tulle.net.prefix import Family

MARK = Struct("!Q")
"""Begins the payload: a number of the caller's, so that nobody else's reply is counted."""

MAX_BYTES = 65535

# linux/in.h, linux/in6.h: numbers that the socket module lacks in Python 3.11.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
PMTUDISC_PROBE = 3
"""DF is set and what the kernel remembers of the path's MTU is not heeded (ip(7)): every size is really tried."""
IPV6_DONTFRAG = 62

NUMBERS: dict[Family, socket.AddressFamily] = {4: socket.AF_INET, 6: socket.AF_INET6}
PROTOCOLS: dict[Family, int] = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}


class Heard(NamedTuple):
    """What came in on a socket."""

    sender: str
    size: int
    """Of the payload, in bytes."""
    sequence: int
    mark: int
    """Of a reply; 0 for an error, which need not quote so far."""
    refusal: echo.Refusal | None


class EchoSocket:
    """One raw socket. `with`, or `close`. Raises PermissionError where this process may not have one; the text says
    what to do."""

    def __init__(self, family: Family, *, source: str | None = None, dont_fragment: bool = False) -> None:
        self.family = family
        self.identifier = int.from_bytes(os.urandom(2))
        self._socket = _open(family)
        try:
            if dont_fragment:
                _forbid_fragments(self._socket, family)
            if source is not None:
                self._socket.bind((source, 0))
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, f"{source}: cannot send from there ({error.strerror})") from error

    def __enter__(self) -> EchoSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, address: str, sequence: int, mark: int, size: int) -> OSError | None:
        """An echo request with `size` bytes of payload (at least the mark's 8). Returns what kept it from leaving."""
        payload = MARK.pack(mark).ljust(size, b"\0")
        return self.send_message(
            address, echo.echo_request(self.family, self.identifier, sequence & 0xFFFF, payload)
        )

    def send_message(self, address: str, message: bytes) -> OSError | None:
        try:
            self._socket.sendto(message, (address, 0))
        except OSError as error:
            return error
        return None

    def receive(self) -> tuple[str, bytes] | None:
        """(sender, message from the ICMP header on) of anything that came in; None where nothing is there."""
        try:
            packet, address = self._socket.recvfrom(MAX_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return None  # an error that the kernel kept for this socket; its ICMP message comes by itself
        return address[0], echo.without_ip_header(self.family, packet)

    def heard(self) -> Heard | None:
        """The next answer to an echo request of this socket; None where what came is none, or nothing came."""
        got = self.receive()
        if got is None:
            return None
        sender, message = got
        reply = echo.read_reply(self.family, message)
        if reply is not None and reply.identifier == self.identifier and len(reply.payload) >= MARK.size:
            mark = MARK.unpack_from(reply.payload)[0]
            return Heard(sender, len(reply.payload), reply.sequence, mark, None)
        refusal = echo.read_refusal(self.family, message)
        if refusal is not None and refusal.identifier == self.identifier:
            return Heard(sender, 0, refusal.sequence, 0, refusal)
        return None


def wait(sockets: Iterable[EchoSocket], deadline: float) -> list[EchoSocket]:
    """Those with something to receive, empty at the deadline (monotonic seconds)."""
    left = deadline - time.monotonic()
    return select.select(list(sockets), [], [], left)[0] if left > 0 else []


def _open(family: Family) -> socket.socket:
    try:
        return socket.socket(
            NUMBERS[family], socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, PROTOCOLS[family]
        )
    except PermissionError as error:
        raise PermissionError(
            errno.EPERM, "ICMP needs the capability CAP_NET_RAW: run this as root (sudo)"
        ) from error


def _forbid_fragments(opened: socket.socket, family: Family) -> None:
    if family == 4:
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
    else:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
