"""Sending many datagrams in few system calls: runs of equal size leave as one UDP_SEGMENT message (udp(7)).

Only the last datagram of a run may be shorter. A path whose MTU has fallen answers EMSGSIZE: that run is sent one by
one. EIO, or a self-test that finds a kernel which corrupts such runs, turns the whole thing off. What else a path wants
(our address, a DS byte) is ready-made and goes with each message.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections import Counter
from collections.abc import Sequence

from tulle.contracts.encapsulation import Buffer, Datagram
from tulle.forward.ancillary import ControlMessages
from tulle.forward.paths import SocketAddress
from tulle.net.trains import SOL_UDP, UDP_SEGMENT

MAX_SEGMENTS = 64
"""Safe on every kernel (newer ones take 128)."""
MAX_RUN_BYTES = 65000
"""Below the longest UDP payload, 65,507 bytes over IPv4."""
SEND_WAIT_MS = 20
"""How long a full send buffer is waited for before packets are dropped: the TUN's queue holds back the senders."""
BUSY = {errno.EAGAIN, errno.ENOBUFS}
SELF_TEST_SIZES = (1400,) * 5 + (700,)


def size_of(datagram: Datagram) -> int:
    return len(datagram[0]) if len(datagram) == 1 else sum(map(len, datagram))


def runs(datagrams: Sequence[Datagram]) -> list[tuple[int, int, int]]:
    """(first, behind last, segment size) of each run that may leave in one message, in order."""
    found: list[tuple[int, int, int]] = []
    start, size, total = 0, 0, 0
    for index, datagram in enumerate(datagrams):
        length = size_of(datagram)
        fits = (
            index > start
            and 0 < length <= size
            and index - start < MAX_SEGMENTS
            and total + length <= MAX_RUN_BYTES
        )
        if not fits:
            if index > start:
                found.append((start, index, size))
            start, size, total = index, length, 0
        total += length
        if fits and length < size:
            found.append((start, index + 1, size))
            start, size, total = index + 1, 0, 0
    if start < len(datagrams):
        found.append((start, len(datagrams), size))
    return found


class SegmentSender:
    """Counts what could not be sent in `counters`; raises nothing."""

    def __init__(self, counters: Counter[str]) -> None:
        self.segments = True
        self._counters = counters
        self._poll = select.poll()
        self._wait_ms = SEND_WAIT_MS

    def use(self, sockets: Sequence[socket.socket]) -> None:
        """The sockets that will be given to `send`."""
        self._poll = select.poll()
        for sock in sockets:
            self._poll.register(sock.fileno(), select.POLLOUT)

    def send(
        self,
        sock: socket.socket,
        address: SocketAddress,
        datagrams: Sequence[Datagram],
        control: ControlMessages = (),
        *,
        waits: bool = True,
    ) -> int:
        """Returns why the kernel refused some of them, as an error number; 0 where it took all or was only busy.
        `waits`: where the send buffer is full, a little, before they are dropped."""
        self._wait_ms = SEND_WAIT_MS if waits else 0
        if len(datagrams) == 1 or not self.segments:
            return self._one_by_one(sock, address, datagrams, control)
        refused = 0
        for first, behind, size in runs(datagrams):
            if behind - first == 1:
                error = self._one_by_one(sock, address, datagrams[first:behind], control)
            else:
                error = self._run(sock, address, datagrams[first:behind], size, control)
            refused = error or refused
        return refused

    def _run(
        self,
        sock: socket.socket,
        address: SocketAddress,
        run: Sequence[Datagram],
        size: int,
        control: ControlMessages,
    ) -> int:
        pieces = [piece for datagram in run for piece in datagram]
        segment = (SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))
        error = self._try(sock, pieces, [*control, segment], address)
        if error is None:
            return 0
        if error == errno.EIO:
            self.segments = False
            self._counters["segments-turned-off"] += 1
        elif error == errno.EMSGSIZE:
            self._counters["path-mtu-fell"] += 1
        elif error != errno.EINVAL:
            return self._dropped(error, len(run))
        return self._one_by_one(sock, address, run, control)

    def _one_by_one(
        self,
        sock: socket.socket,
        address: SocketAddress,
        datagrams: Sequence[Datagram],
        control: ControlMessages,
    ) -> int:
        refused = 0
        for datagram in datagrams:
            error = self._try(sock, datagram, control, address)
            if error is not None:
                refused = self._dropped(error, 1) or refused
        return refused

    def _dropped(self, error: int, count: int) -> int:
        """Counts, and returns the error where it is the path's and not the moment's."""
        name = "send-buffer-full" if error == errno.EAGAIN else errno.errorcode.get(error, str(error)).lower()
        self._counters[f"drop-{name}"] += count
        return 0 if error in BUSY else error

    def _try(
        self,
        sock: socket.socket,
        pieces: Sequence[Buffer],
        control: ControlMessages,
        address: SocketAddress,
    ) -> int | None:
        """The error number, or None. Waits a little where the send buffer is full."""
        for _ in range(2):
            try:
                sock.sendmsg(pieces, control, socket.MSG_DONTWAIT, address)
                return None
            except BlockingIOError:
                self._poll.poll(self._wait_ms)
            except OSError as error:
                return error.errno or errno.EIO
        return errno.EAGAIN

    def self_test(self) -> list[str]:
        """Send a train to ourselves over loopback and compare. Some kernels corrupt equal-size runs (7.0 to 7.1.4)."""
        reason = _try_segments()
        if reason is None:
            return []
        self.segments = False
        return [f"UDP_SEGMENT is off: {reason}; packets are sent one by one"]


def _try_segments() -> str | None:
    """Why trains cannot be used; None where they can."""
    wanted = [os.urandom(size) for size in SELF_TEST_SIZES]
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(1.0)
            control = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", SELF_TEST_SIZES[0]))]
            sender.sendmsg(wanted, control, 0, receiver.getsockname())
            seen = [receiver.recv(65535) for _ in wanted]
    except TimeoutError:
        return "the self-test's datagrams did not arrive"
    except OSError as error:
        return f"the kernel refuses it ({error.strerror})"
    return None if seen == wanted else "the self-test's datagrams arrived changed"
