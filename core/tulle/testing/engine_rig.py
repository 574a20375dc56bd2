"""An engine with a socket pair in the place of the TUN and UDP on loopback: packets in at one end, out at the other.

The engine runs in a thread of its own, as it does in the forwarder's process.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

from tulle.contracts.backend import DataPeer, Endpoint, Family, Listen
from tulle.contracts.encapsulation import Encapsulation, Paths
from tulle.contracts.engine import Engine, Local, MakeEncapsulation
from tulle.kernel.udp import set_options
from tulle.net.gso import HEADER_BYTES, PLAIN
from tulle.net.trains import SOL_UDP, UDP_SEGMENT

WAIT_S = 5.0
ANYWHERE = {4: "0.0.0.0", 6: "::"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
DS_OPTIONS = {
    4: (socket.IPPROTO_IP, socket.IP_TOS, socket.IP_RECVTOS),
    6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_RECVTCLASS),
}
"""Level, what sets the DS byte of what is sent, what tells that of what comes."""
MakeEngine = Callable[[MakeEncapsulation], Engine]


class RigControl:
    """The control side: runs functions in the engine's thread, between batches."""

    def __init__(self) -> None:
        self.stopping = False
        self.failed: list[BaseException] = []
        self._read, self._write = os.pipe()
        self._calls: list[tuple[Callable[[], object], threading.Event, list[BaseException]]] = []

    def filenos(self) -> Sequence[int]:
        return (self._read,)

    def handle(self, fileno: int) -> None:
        os.read(fileno, 1)
        call, done, errors = self._calls.pop(0)
        try:
            call()
        except BaseException as error:
            errors.append(error)
        done.set()

    def idle(self, now: float) -> float | None:
        return None

    def do(self, call: Callable[[], object]) -> None:
        """Run it in the engine's thread and wait. Raises what it raises."""
        done = threading.Event()
        errors: list[BaseException] = []
        self._calls.append((call, done, errors))
        os.write(self._write, b"x")
        deadline = time.monotonic() + WAIT_S
        while not done.wait(0.05) and not self.failed and time.monotonic() < deadline:
            pass
        if self.failed:
            raise self.failed[0]
        if not done.is_set():
            raise TimeoutError("the engine's loop did not come back to its control side")
        if errors:
            raise errors[0]

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class EngineRig:
    """`with EngineRig(make_engine, make_encapsulation) as rig`."""

    def __init__(
        self,
        make_engine: MakeEngine,
        make_encapsulation: Callable[[Paths], Encapsulation],
        local: Local,
        families: Sequence[Family] = (4,),
        *,
        tells: bool = False,
    ) -> None:
        """`tells`: the sockets are bound to the wildcard address and have `Listen.tells`."""
        self.engine = make_engine(make_encapsulation)
        self.control = RigControl()
        self.pod_side, self.tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pod_side.settimeout(WAIT_S)
        for end in (self.pod_side, self.tun):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.tun.setblocking(False)
        self.sockets = [_telling(family) if tells else _bound(family) for family in families]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.engine.set_local(local, {})
        self.engine.set_descriptors([self.tun.fileno()], self.sockets)

    def _run(self) -> None:
        try:
            self.engine.run(self.control)
        except BaseException as error:
            self.control.failed.append(error)

    def __enter__(self) -> EngineRig:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.control.do(lambda: setattr(self.control, "stopping", True))
            self._thread.join(WAIT_S)
        finally:
            self.control.close()
            for one in (self.pod_side, self.tun, *self.sockets):
                one.close()

    def port(self, family: int = 4) -> int:
        """Of the engine's socket."""
        wanted = socket.AF_INET if family == 4 else socket.AF_INET6
        found: int = next(one for one in self.sockets if one.family == wanted).getsockname()[1]
        return found

    def send(self, packet: bytes, header: bytes = PLAIN) -> None:
        """A packet from a pod."""
        self.pod_side.send(header + packet)

    def receive(self) -> bytes:
        """What the engine wrote to the TUN next, without its header. Raises TimeoutError."""
        frame = self.pod_side.recv(1 << 17)
        if frame[:2] != b"\0\0":
            raise AssertionError(
                f"the engine wrote a header that asks for work: {frame[:HEADER_BYTES].hex()}"
            )
        return frame[HEADER_BYTES:]

    def nothing_received(self, wait_s: float = 0.2) -> bool:
        """Whether nothing comes out of the TUN for that long."""
        return not select.select([self.pod_side], [], [], wait_s)[0]

    def set_peer(self, key: str, prefixes: Sequence[str], endpoints: Sequence[tuple[str, int]]) -> None:
        peer = DataPeer(key, tuple(prefixes), tuple(Endpoint(*one) for one in endpoints))
        self.control.do(lambda: self.engine.set_peer(peer))

    def counters(self) -> dict[str, int]:
        found: dict[str, int] = {}
        self.control.do(lambda: found.update(self.engine.counters()))
        return found


class PeerSocket:
    """The other node, as far as the wire shows it."""

    def __init__(self, family: Family = 4, host: str | None = None) -> None:
        self._socket = _bound(family, host)
        self._socket.settimeout(WAIT_S)
        level, _, tell = DS_OPTIONS[family]
        self._socket.setsockopt(level, tell, 1)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._family = family

    def __enter__(self) -> PeerSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, rig: EngineRig, datagram: bytes, host: str = "") -> None:
        """To an address of this machine; "": that of the loopback."""
        self._socket.sendto(datagram, (host or LOOPBACK[self._family], rig.port(self._family)))

    def send_train(self, rig: EngineRig, datagrams: Sequence[bytes]) -> None:
        """In one piece; all but the last have the length of the first."""
        segment = (SOL_UDP, UDP_SEGMENT, len(datagrams[0]).to_bytes(2, sys.byteorder))
        self._socket.sendmsg(datagrams, [segment], 0, (LOOPBACK[self._family], rig.port(self._family)))

    def mark(self, ds: int) -> None:
        """The DS byte of what is sent from now on."""
        level, name, _ = DS_OPTIONS[self._family]
        self._socket.setsockopt(level, name, ds)

    def receive_all(self) -> tuple[bytes, str, int]:
        """The next datagram, where it came from, and its DS byte. Raises TimeoutError."""
        data, ancillary, _, source = self._socket.recvmsg(1 << 16, 128)
        return data, source[0], int.from_bytes(ancillary[0][2], sys.byteorder)

    def receive(self) -> bytes:
        """The next datagram. Raises TimeoutError."""
        return self._socket.recv(1 << 16)


def _telling(family: Family) -> socket.socket:
    made = _bound(family, ANYWHERE[family])
    set_options(made, Listen(family, made.getsockname()[1], fragment=True, tells=True))
    return made


def _bound(family: int, host: str | None = None) -> socket.socket:
    made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    made.bind((host or LOOPBACK[family], 0))
    return made
