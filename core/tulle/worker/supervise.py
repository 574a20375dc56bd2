"""The daemon's end: one worker runs, the right one, with our descriptors; found again after a restart, replaced when
it dies or is not what we would start.

A *session* is a connection to one worker after the greeting. The daemon gives the supervisor a function that runs
while a session lasts; it ends when the worker is gone, and the supervisor sees to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tulle import __version__
from tulle.worker import messages
from tulle.worker.frames import Connection, FrameError
from tulle.worker.processes import kill, running, wait_for_end

log = logging.getLogger("tulle.worker")

GREETING_S = 15.0
"""A worker loads in about 0.2 s, under load in many times that. One that dies is noticed at once."""
RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Pauses before the first, second, ... start after a failure; a worker that lived for STABLE_S begins anew."""
STABLE_S = 10.0
STOP_S = 2.0
"""For a worker to end after Stop; then it is killed."""


class WorkerGone(Exception):
    """The worker closed the connection, refused it, or does not answer."""


class Session:
    """A connection to a worker, in asyncio: send messages, await what comes."""

    def __init__(self, connection: Connection, decode: Callable[[bytes], Any]) -> None:
        self.connection = connection
        self.hello = messages.Hello(protocols=[], version="")
        self._decode = decode
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._readable)
        self._writing = False

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
        session.send(messages.Hello(protocols=[protocol], version=__version__, pid=os.getpid()))
    except BaseException:
        session.close()
        raise
    return session


class Supervisor:
    """See the module.

    `argv` starts a worker, with "{listen}" replaced by the number of its listening descriptor. `marks` are arguments
    that all workers of this place have, of whatever version, and no other process of this network namespace.
    `body(session, take_over)` runs while a session lasts and calls `take_over()` once that worker does the work: an
    older worker that it replaces stops then.
    """

    def __init__(
        self,
        *,
        path: Path,
        argv: Sequence[str],
        marks: Sequence[str],
        fingerprint: str,
        decode: Callable[[bytes], Any],
        body: Callable[[Session, Callable[[], None]], Awaitable[None]],
    ) -> None:
        self.path = path
        self.restarts = 0
        self.pid = 0
        self._argv = list(argv)
        self._marks = list(marks)
        self._fingerprint = fingerprint
        self._decode = decode
        self._body = body
        self._session: Session | None = None
        self._old: Session | None = None
        self._children: list[subprocess.Popen[bytes]] = []

    async def find(self, fetch: Callable[[Session], Awaitable[None]], greeting_s: float = GREETING_S) -> None:
        """Look for a worker that an earlier daemon started, and let `fetch` get its descriptors. Call it before `run`,
        so that nothing is opened anew that a running worker holds. A worker that does not answer is ended: it would
        keep the ports and its part of the packets."""
        session: Session | None = None
        try:
            session = await connect(self.path, self._decode, greeting_s)
            await fetch(session)
        except (WorkerGone, FrameError, OSError) as error:
            log.info("worker-not-adopted error=%s", error)
            if session is not None:
                session.close()
            session = None
        await asyncio.to_thread(self._end_others, session.hello.pid if session is not None else 0)
        if session is None:
            return
        if session.hello.fingerprint == self._fingerprint:
            self._session = session
        else:
            log.info("worker-differs has=%r wanted=%r", session.hello.fingerprint, self._fingerprint)
            self._old = session

    async def run(self) -> None:
        """For ever. Cancelling it leaves the worker running."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            begun = loop.time()
            session, adopted = self._session, self._session is not None
            try:
                if session is None:
                    session = await self._start()
                self.pid = session.hello.pid
                log.info(
                    "worker-running pid=%d adopted=%s runs=%r", self.pid, adopted, session.hello.fingerprint
                )
                await self._body(session, self._retire)
            except (WorkerGone, FrameError, OSError) as error:
                log.warning("worker-lost pid=%d error=%s", self.pid, error)
            finally:
                if session is not None:
                    session.close()
            await self._end()
            self._session = None
            self.restarts += 1
            failures = 0 if loop.time() - begun > STABLE_S else failures + 1
            if failures > 1:
                await asyncio.sleep(RETRY_S[min(failures - 2, len(RETRY_S) - 1)])

    async def _start(self) -> Session:
        """Spawn a worker, detached, and greet it. Its socket takes the path's place in one step."""
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(fresh))
            fresh.chmod(0o600)
            listener.listen(8)
            self._spawn(listener)
            fresh.rename(self.path)
        finally:
            listener.close()
        return await connect(self.path, self._decode)

    def _spawn(self, listener: socket.socket) -> None:
        number = str(listener.fileno())
        argv = [one.replace("{listen}", number) for one in self._argv]
        errors = self.path.with_suffix(".log")
        with errors.open("wb") as sink:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
                env={"LANG": "C.UTF-8"},
                cwd="/",
            )
        self._children.append(child)

    async def _end(self) -> None:
        """See that the lost worker is really gone, and say what it said last."""
        kill(self.pid, self._fingerprint)
        self.pid = 0
        for child in self._children:
            child.kill()
        while self._children:
            child = self._children.pop()
            await asyncio.to_thread(child.wait)
            with contextlib.suppress(OSError):
                words = self.path.with_suffix(".log").read_bytes()[-2000:].decode(errors="replace").strip()
                log.warning("worker-ended pid=%d status=%s %s", child.pid, child.returncode, words)

    def _end_others(self, spared: int) -> None:
        """Workers of this place that nobody speaks to: stopped, hung, or left over from a broken replacement."""
        for pid in list(running(self._marks)):
            if pid != spared and kill(pid, self._marks[0]):
                wait_for_end(pid, STOP_S)
                log.warning("worker-killed pid=%d: it did not answer, or there were two", pid)

    def _retire(self) -> None:
        """Stop the worker whose successor runs. Called again, it does nothing."""
        old, self._old = self._old, None
        if old is None:
            return
        with contextlib.suppress(WorkerGone):
            old.send(messages.Stop())
        old.close()
        asyncio.get_running_loop().call_later(STOP_S, kill, old.hello.pid, self._marks[0])
