"""The reference engine, in the order in which a packet meets it.

Outbound                                    Inbound
1. read up to BATCH packets from the TUN    1. receive up to BATCH datagrams (a GRO train counts as one)
2. finish what offloads left undone         2. cut a train into datagrams
3. look up the peer of the destination      3. the encapsulation opens them
4. the encapsulation seals, peer by peer    4. check source and destination of what was inside
5. equal sizes leave as one UDP_SEGMENT     5. write to the TUN, segments of one TCP stream in one piece

Nothing here is done per packet that can be done per batch, and answers to questions that repeat (which peer, may this
source come from there) are kept in dictionaries (`peering`).

The TUN is asked for no offloads: to cut a super-packet and count its checksums costs 3.3 s of processor time a GB in
Python, to have the kernel do it and to read the packets one by one 2.0 s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tulle.contracts.backend import DataPeer
from tulle.contracts.encapsulation import Buffer, Encapsulation, Outgoing, PathId, PeerId
from tulle.contracts.engine import Control, Local, MakeEncapsulation
from tulle.forward.ancillary import NOTHING, AncillaryReader, Told
from tulle.forward.paths import PathTable, SocketAddress
from tulle.forward.peering import Peering, Traffic
from tulle.forward.udp_batch import SegmentSender
from tulle.net import coalesce, gso, icmp
from tulle.net.packet import addresses, destination

BATCH = 64
"""Reads before the sockets get their turn; also the most segments in one send that every kernel takes."""
FRAME_BYTES = gso.HEADER_BYTES + 65535
DATAGRAM_BYTES = 65535
ANCILLARY_BYTES = 128
WRITE_AT = BATCH // 2
"""Packets that have arrived and are written before more is received."""
LONGEST_WAIT_S = 1.0
UNREACHABLE_PER_S, UNREACHABLE_BURST = 100, 50
"""ICMP errors made here; as Linux's icmp_msgs_per_sec and _burst stand in proportion (1000, 50), for one node."""
DEVICE_GONE = {errno.EFAULT, errno.EBADFD, errno.EBADF, errno.ENODEV}
"""What a TUN whose link was deleted answers (tried on Linux 6.18: read EFAULT, write EBADFD)."""


def boot_seconds() -> float:
    """CLOCK_BOOTTIME: never set back, and it counts the time that the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class PythonEngine:
    """See the module and `contracts.engine.Engine`."""

    name = "python"

    def __init__(
        self, make_encapsulation: MakeEncapsulation, clock: Callable[[], float] = boot_seconds
    ) -> None:
        self._paths = PathTable()
        self._encapsulation: Encapsulation = make_encapsulation(self._paths)
        self._clock = clock
        self._icmp_limit = icmp.RateLimit(UNREACHABLE_PER_S, UNREACHABLE_BURST)
        self._counters: Counter[str] = Counter()
        self._peering = Peering(self._paths, self._counters)
        self._arrived: list[Buffer] = []
        self._queues: list[int] = []
        self._sockets: list[socket.socket] = []
        self._socket_of: dict[int, socket.socket] = {}
        """By address family; the first of each."""
        self._lost: list[int] = []
        self._sender = SegmentSender(self._counters)
        self._ancillary = AncillaryReader()
        self._epoll = select.epoll()
        self._rewired = True

    # --- what the forwarder's main asks for ---------------------------------------------------------------

    def self_test(self) -> Sequence[str]:
        return self._sender.self_test()

    def set_descriptors(self, queues: Sequence[int], sockets: Sequence[socket.socket]) -> None:
        self._queues, self._sockets = list(queues), list(sockets)
        self._socket_of = {one.family: one for one in reversed(self._sockets)}
        self._lost = []
        self._sender.use(self._sockets)
        self._rewired = True

    def set_local(self, local: Local, options: Mapping[str, Any]) -> None:
        self._peering.set_local(local)
        self._encapsulation.configure(options, self._clock())

    def set_peer(self, peer: DataPeer) -> None:
        number, paths = self._peering.set_peer(peer)
        self._encapsulation.set_peer(number, paths, peer.settings, self._clock())

    def remove_peer(self, key: str) -> None:
        number = self._peering.remove_peer(key)
        if number is not None:
            self._encapsulation.remove_peer(number, self._clock())

    def counters(self) -> Mapping[str, int]:
        totals = Counter(self._counters)
        totals.update(self._encapsulation.counters())
        return totals

    def peer_counters(self) -> Mapping[str, Mapping[str, Any]]:
        now = self._clock()
        return self._peering.report(now, self._encapsulation.report(now))

    def lost_devices(self) -> Sequence[int]:
        return self._lost

    def export_state(self) -> bytes:
        return self._encapsulation.export_state()

    def import_state(self, state: bytes) -> None:
        self._encapsulation.import_state(state)

    # --- the loop -------------------------------------------------------------------------------------------

    def run(self, control: Control) -> None:
        waiting: set[int] = set()
        handlers: dict[int, Callable[[], None]] = {}
        while not control.stopping:
            wait = self._wait(control)
            if self._rewired:
                self._rewired, waiting, handlers = False, set(), self._handlers()
                self._epoll.close()
                self._epoll = select.epoll()
                for fileno in handlers:
                    self._epoll.register(fileno, select.EPOLLIN)
            control_files = set(control.filenos())
            for fileno in control_files - waiting:
                self._epoll.register(fileno, select.EPOLLIN)
            waiting = control_files
            for fileno, _ in self._epoll.poll(wait):
                handler = handlers.get(fileno)
                if handler is None:
                    control.handle(fileno)
                elif fileno not in self._lost:
                    handler()

    def _handlers(self) -> dict[int, Callable[[], None]]:
        """Descriptor to what is done when it is readable. A closed descriptor leaves epoll by itself."""
        found: dict[int, Callable[[], None]] = {}
        for queue in self._queues:
            found[queue] = lambda queue=queue: self._outbound(queue)  # type: ignore[misc]
        for sock in self._sockets:
            found[sock.fileno()] = lambda sock=sock: self._inbound(sock)  # type: ignore[misc]
        return found

    def _wait(self, control: Control) -> float:
        """Do what is due; how long the loop may sleep after it, in seconds."""
        now = self._clock()
        come_again = control.idle(now)
        deadline = self._encapsulation.deadline(now)
        if deadline is not None and now >= deadline:
            self._send(self._encapsulation.tick(now), waits=False)
            # One that is still past waits for a round of packets.
            deadline = self._encapsulation.deadline(now)
        due = [one for one in (come_again, deadline) if one is not None]
        return min(LONGEST_WAIT_S, max(0.0, min(due) - now)) if due else LONGEST_WAIT_S

    # --- outbound ---------------------------------------------------------------------------------------------

    def _outbound(self, queue: int) -> None:
        frames: list[bytes] = []
        try:
            for _ in range(BATCH):
                frames.append(os.read(queue, FRAME_BYTES))
        except BlockingIOError:
            pass
        except OSError as error:
            self._device_failed(queue, error)
        by_peer: dict[PeerId, list[Buffer]] = {}
        known = self._peering.known
        for frame in frames:
            if frame[0] or frame[1]:
                packets = _complete(frame)
                if not packets:
                    self._counters["drop-bad-offload"] += 1
            else:
                packets = (frame[gso.HEADER_BYTES :],)
            for packet in packets:
                inner = destination(packet)
                peer = known.get(inner) if inner is not None else None
                if peer is None:
                    peer = self._ask_peering(inner, packet, queue)
                    if peer is None:
                        continue
                if peer in by_peer:
                    by_peer[peer].append(packet)
                else:
                    by_peer[peer] = [packet]
        now = self._clock()
        for peer, batch in by_peer.items():
            self._count_out(self._peering.traffic[peer], batch)
            self._send(self._encapsulation.seal(peer, batch, now))

    def _ask_peering(self, inner: bytes | None, packet: Buffer, queue: int) -> PeerId | None:
        """The slow way: look up and remember, or tell the sender that there is no way."""
        if inner is None:
            self._counters["drop-bad-inner"] += 1
            return None
        peer = self._peering.peer_of(inner)
        if peer is None and (inner[0] == 0xFF if len(inner) == 16 else inner[0] >> 4 == 0xE):
            self._counters["drop-multicast"] += 1
        elif peer is None:
            self._counters["drop-no-route"] += 1
            source = self._peering.icmp_sources.get(packet[0] >> 4)
            if source is not None and self._icmp_limit.allow(self._clock()):
                answer = icmp.unreachable(packet, source)
                if answer is not None:
                    self._counters["icmp-unreachable"] += 1
                    self._write(queue, (answer,))
        return peer

    def _count_out(self, traffic: Traffic, batch: Sequence[Buffer]) -> None:
        size = sum(map(len, batch))
        traffic.packets_out += len(batch)
        traffic.bytes_out += size
        self._counters["packets-out"] += len(batch)
        self._counters["bytes-out"] += size

    def _send(self, outgoing: Sequence[Outgoing], *, waits: bool = True) -> None:
        """`waits`: for room in a full send buffer. Answers do not: a flood of strangers would have the packets wait,
        and whoever means it asks again."""
        failed: dict[PathId, int] = {}
        for path, datagrams in outgoing:
            way = self._paths.way(path)
            sock = None if way is None else self._socket_of.get(way.family)
            if way is None or sock is None:
                self._counters["drop-no-path"] += len(datagrams)
                continue
            error = self._sender.send(sock, way.address, datagrams, way.control, waits=waits)
            if error:
                failed[path] = error
        if failed:
            now = self._clock()
            for path, error in failed.items():
                self._encapsulation.send_failed(path, error, now)

    # --- inbound ------------------------------------------------------------------------------------------------

    def _inbound(self, sock: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data, ancillary, flags, address = sock.recvmsg(
                    DATAGRAM_BYTES, ANCILLARY_BYTES, socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                break
            except OSError:
                # An error that an earlier send left on the socket (udp(7)); reading it has cleared it.
                self._counters["receive-errors"] += 1
                continue
            if flags & socket.MSG_TRUNC:
                self._counters["drop-truncated"] += 1
                continue
            told = self._ancillary.read(ancillary) if ancillary else NOTHING
            size = told.segment_bytes
            if 0 < size < len(data):
                datagrams = [data[start : start + size] for start in range(0, len(data), size)]
            else:
                datagrams = [data]
            self._open(address, told, datagrams)
            if len(self._arrived) >= WRITE_AT:
                self._write_arrived()
        self._write_arrived()

    def _open(self, address: SocketAddress, told: Told, datagrams: Sequence[bytes]) -> None:
        now = self._clock()
        path = self._paths.received_from(address, told)
        opened = self._encapsulation.open(path, datagrams, now)
        for senders, packets in opened.deliveries:
            self._deliver(senders, packets, now)
        if opened.outgoing:
            self._send(opened.outgoing, waits=False)
        for other in opened.others:
            self._send(self._encapsulation.control(path, other, now), waits=False)

    def _deliver(self, senders: frozenset[PeerId], packets: Sequence[Buffer], now: float) -> None:
        """Check where packets claim to come from and to go; those that may pass have arrived."""
        if not senders:
            self._counters["drop-unknown-peer"] += len(packets)
            return
        if not self._queues:
            self._counters["drop-no-device"] += len(packets)
            return
        accepted = self._peering.accepted_from(senders)
        arrived, size, before = self._arrived, 0, len(self._arrived)
        for packet in packets:
            flow = addresses(packet)
            if flow is None:
                self._counters["drop-bad-inner"] += 1
                continue
            traffic = accepted.get(flow) or self._peering.accept(senders, flow)
            if traffic is None:
                continue
            traffic.packets_in += 1
            traffic.bytes_in += len(packet)
            traffic.last_seen = now
            size += len(packet)
            arrived.append(packet)
        self._counters["packets-in"] += len(arrived) - before
        self._counters["bytes-in"] += size

    def _write_arrived(self) -> None:
        packets, self._arrived = self._arrived, []
        for segments in coalesce.group(packets):
            self._write(self._queues[0], segments)

    def _write(self, queue: int, segments: Sequence[Buffer]) -> None:
        """One packet, or several as a super-packet; where the kernel refuses that, one by one."""
        try:
            os.writev(queue, coalesce.join(segments))
        except BlockingIOError:
            self._counters["drop-device-busy"] += len(segments)
        except OSError as error:
            if len(segments) > 1:
                self._counters["super-packets-refused"] += 1
                for segment in segments:
                    self._write(queue, (segment,))
                return
            self._counters["drop-device"] += len(segments)
            self._device_failed(queue, error)

    def _device_failed(self, queue: int, error: OSError) -> None:
        """EIO is a link that is down: it may come back. A deleted one is not read again."""
        if error.errno in DEVICE_GONE and queue not in self._lost:
            self._lost.append(queue)
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(queue)
        self._counters["device-errors"] += 1


def _complete(frame: bytes) -> Sequence[Buffer]:
    """The packets of a frame whose checksum or splitting an earlier engine's offloads left to us."""
    header = gso.parse(frame)
    if header is None:
        return ()
    return gso.split(header, frame[gso.HEADER_BYTES :])
