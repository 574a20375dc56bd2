"""Length-prefixed messages on a stream socket, with file descriptors beside them. Sans-I/O, and the two system calls.

A frame is four bytes of big-endian length and that many bytes. Descriptors travel with the first byte of the frame
that names them (SCM_RIGHTS, unix(7)), so in order of arrival they belong to the frames in order.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque

LENGTH = struct.Struct("!I")
MAX_FRAME_BYTES = 8 << 20
"""More than any message: 20,000 peers in one are 1.8 MB."""
MAX_FDS = 64
"""In one sendmsg; the kernel's own limit is SCM_MAX_FD = 253."""
READ_BYTES = 1 << 16


class FrameError(Exception):
    """The other end does not speak this protocol: close the connection."""


def frame(message: bytes) -> bytes:
    return LENGTH.pack(len(message)) + message


class FrameReader:
    """Bytes in, whole messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Raises FrameError on a length that no message has."""
        self._buffer += data
        found: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, start)
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes, at most {MAX_FRAME_BYTES} are allowed")
            end = start + LENGTH.size + length
            if len(self._buffer) < end:
                break
            found.append(bytes(self._buffer[start + LENGTH.size : end]))
            start = end
        del self._buffer[:start]
        return found


class Connection:
    """One non-blocking stream socket with frames and descriptors in both directions.

    What cannot be sent at once waits in `unsent`; call `flush` until that is empty.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.descriptors: deque[int] = deque()
        self._reader = FrameReader()
        self._out: deque[tuple[bytes, tuple[int, ...]]] = deque()

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def unsent(self) -> bool:
        return bool(self._out)

    def send(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Raises OSError where the other end is gone. The descriptors are duplicated now and stay the caller's."""
        self._out.append((frame(message), tuple(os.dup(one) for one in descriptors)))
        self.flush()

    def flush(self) -> None:
        while self._out:
            data, descriptors = self._out[0]
            try:
                sent = socket.send_fds(self.sock, [data], descriptors, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                return
            for one in descriptors:
                os.close(one)
            if sent < len(data):
                self._out[0] = (data[sent:], ())
            else:
                self._out.popleft()

    def receive(self) -> list[bytes] | None:
        """The whole messages that have arrived; None at the end of the stream. Raises FrameError."""
        found: list[bytes] = []
        while True:
            try:
                data, descriptors = _receive(self.sock)
            except (BlockingIOError, InterruptedError):
                return found
            except ConnectionError:
                return None
            self.descriptors += descriptors
            if not data:
                return found or None
            found += self._reader.feed(data)
            if len(data) < READ_BYTES:
                return found

    def take(self, count: int) -> list[int]:
        """The next descriptors. Raises FrameError where fewer have come than a message named."""
        if len(self.descriptors) < count:
            raise FrameError(f"{count} descriptors were named, {len(self.descriptors)} came")
        return [self.descriptors.popleft() for _ in range(count)]

    def close(self) -> None:
        for one in self.descriptors:
            os.close(one)
        self.descriptors.clear()
        for _, descriptors in self._out:
            for one in descriptors:
                os.close(one)
        self._out.clear()
        self.sock.close()


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """recvmsg with close-on-exec descriptors, which socket.recv_fds does not ask for."""
    found = array.array("i")
    space = socket.CMSG_LEN(MAX_FDS * found.itemsize)
    data, ancillary, _, _ = sock.recvmsg(READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(payload[: len(payload) - len(payload) % found.itemsize])
    return data, list(found)
