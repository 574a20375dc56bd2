"""The daemon's end over real processes: started, found again, replaced when it is another or lost, ended."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.worker import messages, supervise
from tulle.worker.session import WorkerGone, connect

WAIT_S = 20.0
decode = msgspec.msgpack.Decoder(messages.Common).decode


def test_a_worker_is_started_and_outlives_its_daemon(place: Any, in_loop: Any) -> None:
    async def test() -> None:
        async with place.daemon() as daemon:
            pid = await daemon.ready()
        assert place.alive() == [pid]
        assert os.getsid(pid) == pid  # detached from our session and its signals
        assert place.path.stat().st_mode & 0o777 == 0o600

    in_loop(test)


def test_only_a_worker_that_was_there_and_is_not_adopted_is_worth_a_line(
    place: Any, in_loop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A first start is no accident."""
    caplog.set_level("INFO")

    async def test() -> None:
        async with place.daemon() as first:
            pid = await first.ready()
        assert "worker-not-adopted" not in caplog.text
        os.kill(pid, signal.SIGKILL)
        while place.alive():
            await asyncio.sleep(0.01)
        async with place.daemon() as second:
            await second.ready()
        assert "worker-not-adopted" in caplog.text

    in_loop(test)


def test_a_new_daemon_adopts_the_running_worker_with_its_descriptors(place: Any, in_loop: Any) -> None:
    async def test() -> None:
        async with place.daemon() as first:
            pid = await first.ready()
        async with place.daemon() as second:
            assert await second.ready() == pid
            assert second.fetched == [b"first daemon's"]
            assert place.alive() == [pid]

    in_loop(test)


def test_a_killed_worker_is_started_anew_at_once(place: Any, in_loop: Any) -> None:
    async def test() -> None:
        async with place.daemon() as daemon:
            first = await daemon.ready()
            os.kill(first, signal.SIGKILL)
            second = await daemon.ready()
            assert second != first
            assert place.alive() == [second]
            assert daemon.supervisor.restarts == 1

    in_loop(test)


def test_an_adopted_worker_that_is_killed_is_started_anew_too(place: Any, in_loop: Any) -> None:
    async def test() -> None:
        async with place.daemon() as first:
            old = await first.ready()
        async with place.daemon() as second:
            assert await second.ready() == old
            os.kill(old, signal.SIGKILL)
            new = await second.ready()
            assert place.alive() == [new]

    in_loop(test)


def test_a_fault_of_the_daemons_own_is_said_and_the_next_worker_is_served(
    place: Any, in_loop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        daemon = place.daemon()
        body, faults = daemon.supervisor._body, [KeyError("a fault")]

        async def faulty(*arguments: Any) -> None:
            if faults:
                raise faults.pop()
            await body(*arguments)

        daemon.supervisor._body = faulty
        async with daemon:
            pid = await daemon.ready()
            assert place.alive() == [pid]
            assert daemon.supervisor.restarts == 1

    in_loop(test)
    assert "worker-not-served" in caplog.text
    assert "KeyError: 'a fault'" in caplog.text


def test_starts_that_fail_are_further_and_further_apart(
    place: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, in_loop: Any
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
    place: Any, monkeypatch: pytest.MonkeyPatch, in_loop: Any, until: Any
) -> None:
    async def test() -> None:
        monkeypatch.setattr(connect, "__defaults__", (0.3,))
        async with place.daemon(mood="mute") as daemon:
            await until(lambda: daemon.supervisor.restarts >= 2)
            assert len(place.alive()) <= 1

    in_loop(test)


def test_another_fingerprint_is_replaced_and_the_old_one_works_until_the_new_one_does(
    place: Any, in_loop: Any, until: Any
) -> None:
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


def test_the_old_one_is_stopped_also_where_the_first_successor_dies(
    place: Any, in_loop: Any, until: Any
) -> None:
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
    place: Any, monkeypatch: pytest.MonkeyPatch, in_loop: Any, until: Any
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


def test_a_stopped_worker_is_replaced_by_the_next_daemon(place: Any, in_loop: Any) -> None:
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


def test_a_worker_whose_path_is_lost_is_replaced(place: Any, in_loop: Any) -> None:
    async def test() -> None:
        async with place.daemon() as first:
            old = await first.ready()
        place.path.unlink()
        async with place.daemon() as second:
            new = await second.ready()
            assert new != old
            assert place.alive() == [new]

    in_loop(test)


def test_nobody_there_is_said_by_name(short_dir: Path, in_loop: Any) -> None:
    async def test() -> None:
        with pytest.raises(WorkerGone, match=r"w\.sock: No such file"):
            await connect(short_dir / "w.sock", decode)

    in_loop(test)
