"""The daemon's end over real processes: started, found again, replaced, restarted, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tulle.worker import messages, supervise
from tulle.worker.processes import kill, running, wait_for_end
from tulle.worker.supervise import Session, Supervisor, WorkerGone, connect

MARK = "tulle-tiny-worker"
PROGRAM = Path(__file__).with_name("tiny_worker.py")
WAIT_S = 20.0
decode = msgspec.msgpack.Decoder(messages.Common).decode


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
            for child in supervisor._children:
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
        self.running = asyncio.Event()
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

    async def _body(self, session: Session, take_over: Callable[[], None]) -> None:
        self.pids.append(session.hello.pid)
        session.send(messages.Descriptors(["file"]), (self.place.file,))
        session.send(messages.Export())
        named = await session.expect(messages.Descriptors)
        for one in session.connection.take(len(named.names)):
            os.close(one)
        if self.fail_next:
            self.fail_next -= 1
            raise WorkerGone("as the test wants it")
        await self.go_on.wait()
        take_over()
        self.running.set()
        await session.receive()

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


@pytest.fixture
def place(short_dir: Path) -> Iterator[Place]:
    made = Place(short_dir)
    yield made
    made.close()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not done():
            await asyncio.sleep(0.01)


def in_loop(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await test()

    asyncio.run(run())


def test_a_worker_is_started_and_outlives_its_daemon(place: Place) -> None:
    async def test() -> None:
        async with place.daemon() as daemon:
            pid = await daemon.ready()
        assert place.alive() == [pid]
        assert os.getsid(pid) == pid  # detached from our session and its signals
        assert place.path.stat().st_mode & 0o777 == 0o600

    in_loop(test)


def test_a_new_daemon_adopts_the_running_worker_with_its_descriptors(place: Place) -> None:
    async def test() -> None:
        async with place.daemon() as first:
            pid = await first.ready()
        async with place.daemon() as second:
            assert await second.ready() == pid
            assert second.fetched == [b"first daemon's"]
            assert place.alive() == [pid]

    in_loop(test)


def test_a_killed_worker_is_started_anew_at_once(place: Place) -> None:
    async def test() -> None:
        async with place.daemon() as daemon:
            first = await daemon.ready()
            os.kill(first, signal.SIGKILL)
            second = await daemon.ready()
            assert second != first
            assert place.alive() == [second]
            assert daemon.supervisor.restarts == 1

    in_loop(test)


def test_an_adopted_worker_that_is_killed_is_started_anew_too(place: Place) -> None:
    async def test() -> None:
        async with place.daemon() as first:
            old = await first.ready()
        async with place.daemon() as second:
            assert await second.ready() == old
            os.kill(old, signal.SIGKILL)
            new = await second.ready()
            assert place.alive() == [new]

    in_loop(test)


def test_starts_that_fail_are_further_and_further_apart(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def test() -> None:
        daemon = place.daemon(mood="crash")
        async with daemon:
            monkeypatch.setattr("tulle.worker.supervise.asyncio.sleep", noted)
            async with asyncio.timeout(WAIT_S):
                while len(pauses) < len(supervise.RETRY_S) + 1:
                    await sleep(0.01)
            monkeypatch.undo()

    in_loop(test)
    assert "status=1 this worker does not like it here" in caplog.text
    assert tuple(pauses[: len(supervise.RETRY_S) + 1]) == (*supervise.RETRY_S, supervise.RETRY_S[-1])


def test_a_worker_that_never_says_hello_is_killed_and_not_left_behind(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        monkeypatch.setattr(supervise.connect, "__defaults__", (0.3,))
        async with place.daemon(mood="mute") as daemon:
            await until(lambda: daemon.supervisor.restarts >= 2)
            assert len(place.alive()) <= 1

    in_loop(test)


def test_another_fingerprint_is_replaced_and_the_old_one_works_until_the_new_one_does(place: Place) -> None:
    async def test() -> None:
        async with place.daemon("one") as first:
            old = await first.ready()
        second = place.daemon("two")
        second.go_on.clear()
        async with second:
            await until(lambda: bool(second.pids))
            assert second.fetched == [b"first daemon's"]
            assert sorted(place.alive()) == sorted([old, second.pids[0]])
            second.go_on.set()
            new = await second.ready()
            await until(lambda: place.alive() == [new])
        third = place.daemon("two")
        async with third:
            assert await third.ready() == new  # the path is the new one's

    in_loop(test)


def test_the_old_one_is_stopped_also_where_the_first_successor_dies(place: Place) -> None:
    async def test() -> None:
        async with place.daemon("one") as first:
            old = await first.ready()
        second = place.daemon("two")
        second.fail_next = 1
        async with second:
            new = await second.ready()
            assert len(second.pids) == 2
            await until(lambda: place.alive() == [new])
            assert old != new

    in_loop(test)


def test_an_old_one_that_does_not_hear_the_stop_is_killed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        monkeypatch.setattr(supervise, "STOP_S", 0.2)
        async with place.daemon("one") as first:
            old = await first.ready()
        second = place.daemon("two")
        second.go_on.clear()
        async with second:
            os.kill(old, signal.SIGSTOP)
            second.go_on.set()
            new = await second.ready()
            await until(lambda: place.alive() == [new])

    in_loop(test)


def test_a_stopped_worker_is_replaced_by_the_next_daemon(place: Place) -> None:
    """It would keep the ports and its part of the packets."""

    async def test() -> None:
        async with place.daemon() as first:
            old = await first.ready()
        os.kill(old, signal.SIGSTOP)
        async with place.daemon() as second:
            new = await second.ready()
            assert new != old
            assert place.alive() == [new]

    in_loop(test)


def test_a_worker_whose_path_is_lost_is_replaced(place: Place) -> None:
    async def test() -> None:
        async with place.daemon() as first:
            old = await first.ready()
        place.path.unlink()
        async with place.daemon() as second:
            new = await second.ready()
            assert new != old
            assert place.alive() == [new]

    in_loop(test)


def test_nobody_there_is_said_by_name(short_dir: Path) -> None:
    async def test() -> None:
        with pytest.raises(WorkerGone, match=r"w\.sock: No such file"):
            await connect(short_dir / "w.sock", decode)

    in_loop(test)
