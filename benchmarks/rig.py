"""The python engine with a socket pair in the place of the TUN and UDP on loopback, driven by hand, batch by batch, and
the same system calls without an engine. For `engine` and the micro-benchmarks.

A batch is filled and drained outside of what is timed. A real TUN costs more than a socket pair: its write runs the
kernel's way to the pod. So ratios to the bare calls are worse here than on a node.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tulle.contracts.backend import DataPeer, Endpoint
from tulle.contracts.engine import Local
from tulle.forward.python_engine import ANCILLARY_BYTES, BATCH, DATAGRAM_BYTES, FRAME_BYTES, PythonEngine
from tulle.net.gso import HEADER_BYTES
from tulle.net.trains import UDP_GRO, UDP_SEGMENT
from tulle_udp.encapsulation import PlainUdp

BUFFER_BYTES = 4 << 20
PLAIN = bytes(HEADER_BYTES)
HERE, THERE = "10.1.0.0/24", "10.2.0.0/24"
IPV4 = struct.Struct("!BBHHHBBH4s4s")


def packet(source: str, target: str, size: int) -> bytes:
    """An IPv4 packet of `size` bytes in all; what it carries is nobody's protocol (253, RFC 3692)."""
    ends = socket.inet_aton(source), socket.inet_aton(target)
    return IPV4.pack(0x45, 0, size, 0, 0, 64, 253, 0, *ends).ljust(size, b"x")


class BenchRig:
    """A context manager. `size`: bytes of an inner packet."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.out = packet("10.1.0.2", "10.2.0.2", size)
        self.back = packet("10.2.0.2", "10.1.0.2", size)
        self.pod, self.tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.udp, self.peer = udp_socket(), udp_socket()
        for end in (self.pod, self.tun):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            end.setblocking(False)
        self.there: tuple[str, int] = self.peer.getsockname()
        self.here: tuple[str, int] = self.udp.getsockname()
        self.engine = PythonEngine(lambda paths: PlainUdp(paths, os.urandom))
        self.engine.set_local(Local(prefixes=(HERE,)), {})
        self.engine.set_descriptors([self.tun.fileno()], [self.udp])
        self.engine.set_peer(DataPeer("peer", (THERE,), (Endpoint(*self.there),)))
        self._empty = bytearray(DATAGRAM_BYTES + HEADER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self.pod, self.tun, self.udp, self.peer):
            one.close()

    # --- a batch, before and after ------------------------------------------------------------------------------

    def fill_out(self) -> None:
        """BATCH packets lie in the TUN."""
        frame = PLAIN + self.out
        for _ in range(BATCH):
            self.pod.send(frame)

    def fill_in(self) -> None:
        """BATCH datagrams lie in the socket, in as few trains as they fit into."""
        left = BATCH
        while left:
            train = min(left, 60_000 // self.size)
            send_train(self.peer, [self.back] * train, self.size, self.here)
            left -= train

    def drain_out(self) -> int:
        """How many packets were sent to the peer."""
        return self._drain(self.peer, self.size)

    def drain_in(self) -> int:
        """How many packets were written to the TUN."""
        return self._drain(self.pod, HEADER_BYTES + self.size)

    def _drain(self, sock: socket.socket, size: int) -> int:
        found = 0
        while True:
            try:
                found += sock.recv_into(self._empty) // size
            except BlockingIOError:
                return found

    # --- what is timed ------------------------------------------------------------------------------------------

    def engine_out(self) -> None:
        self.engine._outbound(self.tun.fileno())

    def engine_in(self) -> None:
        self.engine._inbound(self.udp)

    def bare_out(self) -> None:
        """The calls alone: BATCH reads, and a send for each train that fits."""
        queue, skip = self.tun.fileno(), HEADER_BYTES
        found = [os.read(queue, FRAME_BYTES)[skip:] for _ in range(BATCH)]
        train = min(BATCH, 65_000 // self.size)
        for at in range(0, BATCH, train):
            send_train(self.udp, found[at : at + train], self.size, self.there)

    def bare_in(self) -> None:
        """The calls alone: receive until there is nothing, and a write for each datagram."""
        queue, size = self.tun.fileno(), self.size
        while True:
            try:
                data, _, _, _ = self.udp.recvmsg(DATAGRAM_BYTES, ANCILLARY_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            for at in range(0, len(data), size):
                os.writev(queue, (PLAIN, data[at : at + size]))


def udp_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    made.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    made.bind(("127.0.0.1", 0))
    made.setblocking(False)
    return made


def send_train(sock: socket.socket, datagrams: Sequence[bytes], size: int, address: tuple[str, int]) -> None:
    """One UDP_SEGMENT message (udp(7))."""
    sock.sendmsg(datagrams, [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))], 0, address)
