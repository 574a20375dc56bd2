"""The python engine against the contract of all engines, and what only it does."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from tulle.contracts.encapsulation import Encapsulation, Paths
from tulle.contracts.engine import Engine, MakeEncapsulation
from tulle.forward.python_engine import PythonEngine
from tulle.net import gso
from tulle.net.packet import TCP
from tulle.testing.engine_contract import OURS, THEIRS, EngineContract
from tulle.testing.engine_rig import EngineRig, PeerSocket
from tulle.testing.packets import packet
from tulle_udp.encapsulation import PlainUdp


class TestPythonEngine(EngineContract):
    def make_engine(self, make_encapsulation: MakeEncapsulation) -> Engine:
        return PythonEngine(make_encapsulation)

    def make_encapsulation(self, paths: Paths) -> Encapsulation:
        return PlainUdp(paths, os.urandom)


class TestPythonEngineWithoutSegments(TestPythonEngine):
    """The fall-back of kernels that corrupt or refuse UDP_SEGMENT."""

    def make_engine(self, make_encapsulation: MakeEncapsulation) -> Engine:
        engine = PythonEngine(make_encapsulation)
        engine._sender.segments = False
        return engine


def stream(source: str, target: str, count: int, size: int = 1000) -> list[bytes]:
    """TCP segments that follow each other, with right checksums."""
    tcp = struct.pack("!HHIIBBHHH", 1000, 80, 7, 9, 5 << 4, 0x10, 500, 0, 0)
    big = packet(source, target, tcp + os.urandom(count * size), protocol=TCP)
    start = len(big) - count * size - len(tcp)
    kind = gso.GSO_TCPV4 if start == 20 else gso.GSO_TCPV6
    return [bytes(one) for one in gso.split(gso.Header(gso.NEEDS_CSUM, kind, 0, size, start, 16), big)]


def send_at_once(rig: EngineRig, peer: PeerSocket, packets: list[bytes]) -> None:
    """The engine finds all of them when it looks."""

    def send() -> None:
        for one in packets:
            peer.send(rig, one)

    rig.control.do(send)


def frames(rig: EngineRig, packets: int) -> list[list[bytes]]:
    """What the engine wrote, until there are so many packets: each frame as the kernel would cut it."""
    found: list[list[bytes]] = []
    while sum(map(len, found)) < packets:
        frame = rig.pod_side.recv(1 << 17)
        header = gso.parse(frame)
        assert header is not None
        found.append([bytes(one) for one in gso.split(header, frame[gso.HEADER_BYTES :])])
    return found


@pytest.mark.parametrize(("here", "there"), [(OURS, THEIRS), ("fd42:1::2", "fd42:2::2")])
def test_segments_that_arrive_together_are_written_in_one_piece(here: str, there: str) -> None:
    with TestPythonEngine().rig() as (rig, peer):
        segments = stream(there, here, 20)
        send_at_once(rig, peer, segments)
        assert frames(rig, 20) == [segments]
        assert rig.counters()["packets-in"] == 20


def test_a_spoofed_segment_is_not_joined_to_its_neighbours() -> None:
    with TestPythonEngine().rig() as (rig, peer):
        first, second = stream(THEIRS, OURS, 2)
        spoofed = stream("10.42.3.2", OURS, 1)[0]
        send_at_once(rig, peer, [first, spoofed, second])
        assert frames(rig, 2) == [[first, second]]
        assert rig.counters()["drop-source"] == 1


def test_what_the_kernel_refuses_in_one_piece_is_written_one_by_one() -> None:
    """A socket pair refuses what is longer than its buffer (EMSGSIZE)."""
    with TestPythonEngine().rig() as (rig, peer):
        rig.tun.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8000)
        segments = stream(THEIRS, OURS, 18)
        send_at_once(rig, peer, segments)
        came = frames(rig, 4)
        assert all(len(one) == 1 for one in came)
        assert [one for (one,) in came] == segments[: len(came)]
        counters = rig.counters()
        assert counters["super-packets-refused"] == 1
        # The pair holds only so many; a device that is full drops the rest.
        assert counters["drop-device-busy"] < 18
