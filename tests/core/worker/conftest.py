"""Directories with short paths: a Unix socket's path has at most 107 bytes (unix(7)), pytest's own are longer. And in
them places, where daemons look after workers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tulle.worker import messages
from tulle.worker.handover import Handover
from tulle.worker.processes import kill, running, wait_for_end
from tulle.worker.session import Session, WorkerGone
from tulle.worker.supervise import Supervisor

MARK = "tulle-tiny-worker"
PROGRAM = Path(__file__).with_name("tiny_worker.py")
WAIT_S = 20.0
decode = msgspec.msgpack.Decoder(messages.Common).decode


@pytest.fixture
def short_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tulle-") as name:
        yield Path(name)


class Place:
    """A directory with workers; its daemons hold one descriptor and give it to every worker."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "w.sock"
        self.marks = (MARK, str(directory))
        self.file = os.memfd_create("held")
        os.write(self.file, b"first daemon's")
        self.children: list[Supervisor] = []

    def alive(self) -> list[int]:
        """Workers that are no zombies."""
        return [pid for pid in running(self.marks) if not wait_for_end(pid, 0.0)]

    def daemon(self, fingerprint: str = "one", mood: str = "") -> Daemon:
        return Daemon(self, fingerprint, mood)

    def close(self) -> None:
        for pid in list(running(self.marks)):
            kill(pid, MARK)
        for supervisor in self.children:
            for child in supervisor._children.values():
                child.wait()
        os.close(self.file)


class Daemon:
    """As much of tulled as the supervisor needs."""

    def __init__(self, place: Place, fingerprint: str, mood: str) -> None:
        self.place = place
        self.pids: list[int] = []
        self.fetched: list[bytes] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fail_next = 0
        self.strike: tuple[str, str, signal.Signals] | None = None
        """At that step of the next hand-over the "old" worker, or the "new" one, gets that signal."""
        self.running = asyncio.Event()
        self.session: Session | None = None
        self.blobs: asyncio.Queue[bytes] = asyncio.Queue()
        argv = [sys.executable, str(PROGRAM), *place.marks, "{listen}", fingerprint]
        self.supervisor = Supervisor(
            path=place.path,
            argv=[*argv, mood] if mood else argv,
            marks=place.marks,
            fingerprint=fingerprint,
            decode=decode,
            body=self._body,
        )
        place.children.append(self.supervisor)

    async def _body(self, session: Session, handover: Handover) -> None:
        self.pids.append(session.hello.pid)
        if handover.pending:
            await self.go_on.wait()
            self._at("before the release", session, handover)
            sessions = await handover.release()
            self._at("after the release", session, handover)
            if sessions:
                session.send(messages.StateBlob(sessions))
            self._at("after the state", session, handover)
        session.send(messages.Descriptors(["file"]), (self.place.file,))
        self._at("after the descriptors", session, handover)
        if self.fail_next:
            self.fail_next -= 1
            raise WorkerGone("as the test wants it")
        if session.protocol >= messages.HOLDING_SINCE:
            await session.expect(messages.Holding)
        self._at("before the end", session, handover)
        handover.confirm()
        self.session = session
        self.running.set()
        while True:
            message = await session.receive()
            if isinstance(message, messages.StateBlob):
                self.blobs.put_nowait(message.data)

    def _at(self, step: str, session: Session, handover: Handover) -> None:
        if self.strike is not None and self.strike[0] == step and handover.old is not None:
            _, who, number = self.strike
            self.strike = None
            os.kill((handover.old if who == "old" else session).hello.pid, number)

    async def fetch(self, session: Session) -> None:
        session.send(messages.Export())
        named = await session.expect(messages.Descriptors)
        for one in session.connection.take(len(named.names)):
            self.fetched.append(os.pread(one, 100, 0))
            os.close(one)

    async def __aenter__(self) -> Daemon:
        await self.supervisor.find(self.fetch, greeting_s=1.0)
        self.task = asyncio.create_task(self.supervisor.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """As tulled ends: the worker goes on."""
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task

    async def ready(self) -> int:
        """Wait until a worker works; its process id."""
        async with asyncio.timeout(WAIT_S):
            await self.running.wait()
        self.running.clear()
        return self.pids[-1]

    async def sessions(self) -> bytes:
        """What the worker at work has, and where it comes from."""
        assert self.session is not None
        self.session.send(messages.ExportState())
        async with asyncio.timeout(WAIT_S):
            return await self.blobs.get()


@pytest.fixture
def place(short_dir: Path) -> Iterator[Place]:
    made = Place(short_dir)
    yield made
    made.close()


@pytest.fixture
def until() -> Callable[..., object]:
    """`await until(done)`: at most WAIT_S."""

    async def wait(done: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not done():
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def in_loop() -> Callable[..., None]:
    """`in_loop(test)` runs an async test, which has an end."""

    def run(test: Callable[[], object]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(3 * WAIT_S):
                await test()  # type: ignore[misc]

        asyncio.run(limited())

    return run
