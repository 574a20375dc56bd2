"""A daemon's connection to one worker, after the greeting: send messages, await what comes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tulle import __version__
from tulle.worker import messages
from tulle.worker.frames import Connection, FrameError

log = logging.getLogger("tulle.worker")

SILENT_S = 10.0
"""A worker answers within milliseconds; one that does not for so long is replaced."""
GREETING_S = 15.0
"""A worker loads in about 0.3 s, under load in many times that. One that dies is noticed at once."""


class WorkerGone(Exception):
    """The worker closed the connection, refused it, or does not answer."""


class Session:
    """A connection to a worker, in asyncio: send messages, await what comes."""

    def __init__(self, connection: Connection, decode: Callable[[bytes], Any]) -> None:
        self.connection = connection
        self.hello = messages.Hello(protocols=[], version="")
        self.protocol = 0
        """The version that both speak."""
        self._decode = decode
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._readable)
        self._writing = False
        self._heard = self._loop.time()

    def send(self, message: Any, descriptors: tuple[int, ...] = ()) -> None:
        """Raises WorkerGone."""
        try:
            self.connection.send(messages.encode(message), descriptors)
        except OSError as error:
            raise WorkerGone(str(error)) from error
        if self.connection.unsent and not self._writing:
            self._writing = True
            self._loop.add_writer(self.connection.fileno(), self._writable)

    async def receive(self, timeout: float | None = None) -> Any:
        """The next message. Raises WorkerGone at the end of the stream and after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                message = await self._inbox.get()
        except TimeoutError:
            raise WorkerGone(f"no answer within {timeout} s") from None
        if message is None:
            self._inbox.put_nowait(None)
            raise WorkerGone("it closed the connection")
        if isinstance(message, messages.Refused):
            raise WorkerGone(f"it refused: {message.reason}")
        return message

    async def next_within(self, seconds: float) -> Any | None:
        """The next message, None where none comes in time. Raises WorkerGone at the end of the stream, and where
        nothing has come for SILENT_S: a worker is to be asked something more often than that."""
        try:
            async with asyncio.timeout(seconds):
                message = await self.receive()
        except TimeoutError:
            if self._loop.time() - self._heard > SILENT_S:
                raise WorkerGone(f"it has said nothing for {SILENT_S:.0f} s") from None
            return None
        self._heard = self._loop.time()
        return message

    async def expect(self, kind: type[Any], timeout: float = GREETING_S) -> Any:
        """The next message of that type; others are dropped."""
        while True:
            message = await self.receive(timeout)
            if isinstance(message, kind):
                return message

    def _readable(self) -> None:
        try:
            found = self.connection.receive()
            decoded = None if found is None else [self._decode(one) for one in found]
        except (OSError, FrameError, msgspec.DecodeError) as error:
            log.warning("worker-bad-frame error=%s", error)
            decoded = None
        if decoded is None:
            self._loop.remove_reader(self.connection.fileno())
            self._inbox.put_nowait(None)
            return
        for one in decoded:
            self._inbox.put_nowait(one)

    def _writable(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.flush()
            if self.connection.unsent:
                return
        self._writing = False
        self._loop.remove_writer(self.connection.fileno())

    def close(self) -> None:
        fileno = self.connection.fileno()
        if fileno >= 0:
            self._loop.remove_reader(fileno)
            self._loop.remove_writer(fileno)
            self.connection.close()


async def connect(path: Path, decode: Callable[[bytes], Any], timeout: float = GREETING_S) -> Session:
    """Connect and greet. Raises WorkerGone where nobody listens or the two share no protocol."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # A stopped worker whose backlog is full must not stop us too: then connect says EAGAIN (unix(7)).
    sock.setblocking(False)
    try:
        sock.connect(str(path))
    except OSError as error:
        sock.close()
        raise WorkerGone(f"{path}: {error.strerror}") from error
    session = Session(Connection(sock), decode)
    try:
        session.hello = await session.expect(messages.Hello, timeout)
        protocol = messages.choose_protocol(session.hello.protocols)
        if protocol is None:
            raise WorkerGone(f"it speaks protocols {session.hello.protocols}, we {list(messages.PROTOCOLS)}")
        session.protocol = protocol
        session.send(messages.Hello(protocols=[protocol], version=__version__, pid=os.getpid()))
    except BaseException:
        session.close()
        raise
    return session
