"""A whole engine between a TUN and the network: each datagram that came is delivered or counted under a reason, and
what is written to the TUN is nothing but whole packets."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache

from fuzz.bites import Bites, pieces
from tulle.contracts.backend import DataPeer, Endpoint
from tulle.contracts.engine import Local
from tulle.forward.python_engine import PythonEngine
from tulle.net import gso
from tulle.net.packet import addresses
from tulle.net.trains import UDP_GRO
from tulle.testing.packets import packet
from tulle_udp.encapsulation import PlainUdp

LIMIT = 40
"""Datagrams of an input: no more than loopback's buffers hold, whatever their size."""
ENGINE, PEER, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
LARGEST_BYTES = 65_507  # a datagram's payload over IPv4
LARGEST_FRAME_BYTES = 60_000  # what the socket pair takes in one piece
COUNTED_S = 5.0
_SIX = packet("fd02::2", "fd01::2", bytes(30))
SEEDS = [
    b"\0" + pieces(packet("10.2.0.2", "10.1.0.2", b"fine"), b"", b"\x45", bytes(20), _SIX),
    b"\1" + pieces(packet("10.2.0.2", "10.1.0.2", b"from a stranger"), _SIX[:-1], _SIX + b"\0"),
    b"\0"
    + pieces(packet("10.3.0.2", "10.1.0.2"), packet("10.2.0.2", "10.3.0.2"), packet("10.1.0.2", "10.1.0.2")),
    b"\2" + pieces(gso.PLAIN + packet("10.1.0.2", "10.2.0.2", b"out"), gso.PLAIN, gso.PLAIN + b"\x60" * 40),
    b"\2" + pieces(gso.PLAIN + packet("10.1.0.2", "10.9.0.2"), gso.PLAIN + packet("10.1.0.2", "224.0.0.1")),
    b"\2"
    + pieces(
        gso.pack(gso.Header(1, gso.GSO_TCPV4, 0, 10, 20, 16)) + packet("10.1.0.2", "10.2.0.2", bytes(90))
    ),
]


class _Until:
    """The control side: the loop ends when the engine has counted so many."""

    def __init__(self, engine: PythonEngine, wanted: int) -> None:
        self.stopping = False
        self._engine, self._wanted = engine, wanted
        self._end = time.monotonic() + COUNTED_S

    def filenos(self) -> Sequence[int]:
        return ()

    def handle(self, fileno: int) -> None:
        raise AssertionError(f"descriptor {fileno} is not the control side's")

    def idle(self, now: float) -> float:
        self.stopping = counted(self._engine) >= self._wanted or now > self._end
        return now


class _Rig:
    """The engine, its TUN's other end and two hosts on the network."""

    def __init__(self) -> None:
        self.pod, self.tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.pod, self.tun):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
            end.setblocking(False)
        self.udp, self.peer, self.stranger = (_bound(host) for host in (ENGINE, PEER, STRANGER))
        self.udp.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.engine = PythonEngine(lambda paths: PlainUdp(paths, os.urandom))
        self.engine.set_local(Local(("10.1.0.0/24", "fd01::/64"), ("10.1.0.0", "fd01::")), {})
        self.engine.set_peer(
            DataPeer("peer", ("10.2.0.0/24", "fd02::/64"), (Endpoint(*self.peer.getsockname()),))
        )

    def run(self, more: int) -> Counter[str]:
        """Until the engine has counted so many more; returns what it counted."""
        before = Counter(self.engine.counters())
        self.engine.set_descriptors([self.tun.fileno()], [self.udp])
        self.engine.run(_Until(self.engine, counted(self.engine) + more))
        return Counter(self.engine.counters()) - before

    def written(self) -> Iterator[bytes]:
        with contextlib.suppress(BlockingIOError):
            while True:
                yield self.pod.recv(1 << 17)

    def drain(self) -> None:
        """What left for the network."""
        for one in (self.peer, self.stranger):
            with contextlib.suppress(BlockingIOError):
                while True:
                    one.recv(1 << 16)

    def close(self) -> None:
        for one in (self.pod, self.tun, self.udp, self.peer, self.stranger):
            one.close()


def counted(engine: PythonEngine) -> int:
    """Packets whose fate is known. A device that is busy is counted beside the packet that came in."""
    counters = engine.counters()
    ends = [name for name in counters if name.startswith("drop-") and name != "drop-device-busy"]
    return sum(counters[name] for name in (*ends, "packets-in", "packets-out") if name in counters)


@cache
def rig() -> _Rig:
    return _Rig()


def close() -> None:
    """After the last input."""
    if rig.cache_info().currsize:
        rig().close()
        rig.cache_clear()


def target(data: bytes) -> None:
    """The first byte: datagrams of the peer, of a stranger, or frames of pods."""
    bites = Bites(data)
    way = bites.number() % 3
    given = bites.pieces(LIMIT)
    if way == 2:
        _from_pods(given)
    else:
        _from_network(given, rig().peer if way == 0 else rig().stranger)


def _from_network(datagrams: list[bytes], sender: socket.socket) -> None:
    sent = 0
    for one in datagrams:
        sender.sendto(one[:LARGEST_BYTES], rig().udp.getsockname())
        sent += 1
    found = rig().run(sent)
    fates = {name: count for name, count in found.items() if name.startswith("drop-") or name == "packets-in"}
    assert sum(fates.values()) == sent, found
    inner = [one for frame in rig().written() for one in _packets(frame)]
    assert len(inner) == found["packets-in"]
    assert not inner or sender is rig().peer
    for one in inner:
        assert bytes(one) in datagrams
    rig().drain()


def _from_pods(frames: list[bytes]) -> None:
    for one in frames:
        rig().pod.send(one[:LARGEST_FRAME_BYTES].ljust(gso.HEADER_BYTES, b"\0"))
    found = rig().run(len(frames))
    assert sum(found.values()) >= len(frames), found
    for frame in rig().written():  # ICMP errors
        for one in _packets(frame):
            assert addresses(one) is not None
    rig().drain()


def _packets(frame: bytes) -> list[bytes]:
    header = gso.parse(frame)
    assert header is not None
    return [bytes(one) for one in gso.split(header, frame[gso.HEADER_BYTES :])]


def _bound(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    made.bind((host, 0))
    made.setblocking(False)
    return made
