"""Workers that take over from workers, over real processes: who has the sessions, who is at work, who is left."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from tulle.worker import messages, supervise
from tulle.worker.handover import Handover
from tulle.worker.session import WorkerGone


def test_where_nobody_is_there_to_take_over_from_there_is_nothing_to_do(in_loop: Any) -> None:
    async def test() -> None:
        handover = Handover()
        assert not handover.pending
        assert await handover.release() == b""
        handover.confirm()
        assert not handover.done.is_set()

    in_loop(test)


def test_a_worker_that_is_asked_to_hands_over_and_its_daemon_sees_it_off(
    place: Any, in_loop: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with place.daemon() as daemon:
            pids = [await daemon.ready()]
            for _ in range(3):
                old, new, seconds = await daemon.supervisor.replace()
                assert (old, new) == (pids[-1], await daemon.ready())
                assert 0.0 < seconds < supervise.REPLACE_S
                pids.append(new)
            assert len(set(pids)) == 4
            await until(lambda: place.alive() == [pids[-1]])
            assert daemon.supervisor.restarts == 0
            await until(lambda: list(daemon.supervisor._children) == [pids[-1]])  # no zombie is left
        async with place.daemon() as second:
            assert await second.ready() == pids[-1]  # the path is the last one's

    in_loop(test)
    assert "worker-killed" not in caplog.text  # they ended when they were told to


def test_sessions_go_from_one_to_the_next(place: Any, in_loop: Any) -> None:
    async def test() -> None:
        async with place.daemon("one", "sessions") as first:
            await first.ready()
        async with place.daemon("two", "sessions") as second:
            await second.ready()
            await second.supervisor.replace()
            await second.ready()
            assert await second.sessions() == b"two from two from one"

    in_loop(test)


def test_sessions_are_given_to_one_successor_only(place: Any, in_loop: Any) -> None:
    """The one that died may have used them: a counter would be used twice."""

    async def test() -> None:
        async with place.daemon("one", "sessions") as first:
            await first.ready()
        second = place.daemon("two", "sessions")
        second.fail_next = 1
        async with second:
            await second.ready()
            assert len(second.pids) == 2
            assert await second.sessions() == b"two"

    in_loop(test)


def test_a_successor_that_cannot_start_leaves_the_old_one_at_work(
    place: Any, caplog: pytest.LogCaptureFixture, in_loop: Any
) -> None:
    async def test() -> None:
        async with place.daemon() as daemon:
            old = await daemon.ready()
            argv = daemon.supervisor._argv
            daemon.supervisor._argv = [*argv, "crash"]
            with pytest.raises(WorkerGone):
                await daemon.supervisor.replace()
            assert place.alive() == [old]
            assert "this worker does not like it here" in caplog.text
            daemon.supervisor._argv = argv
            replaced, new, _ = await daemon.supervisor.replace()
            assert (replaced, new) == (old, await daemon.ready())

    in_loop(test)


def test_an_old_one_that_dies_while_its_successor_starts_is_simply_replaced(
    place: Any, in_loop: Any, until: Any
) -> None:
    async def test() -> None:
        async with place.daemon() as daemon:
            old = await daemon.ready()
            asked = asyncio.create_task(daemon.supervisor.replace())
            await asyncio.sleep(0)
            os.kill(old, signal.SIGKILL)
            with pytest.raises(WorkerGone, match="ended while its successor was started"):
                await asked
            new = await daemon.ready()
            await until(lambda: place.alive() == [new])
            assert daemon.supervisor.restarts == 1

    in_loop(test)


def test_nobody_hands_over_before_one_is_at_work(place: Any, in_loop: Any) -> None:
    async def test() -> None:
        daemon = place.daemon()
        with pytest.raises(WorkerGone, match="no worker is at work"):
            await daemon.supervisor.replace()

    in_loop(test)


def test_an_old_one_that_hangs_is_succeeded_without_its_sessions(
    place: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, in_loop: Any, until: Any
) -> None:
    monkeypatch.setattr("tulle.worker.handover.RELEASE_S", 0.2)
    monkeypatch.setattr(supervise, "STOP_S", 0.2)

    async def test() -> None:
        async with place.daemon("one", "sessions") as daemon:
            old = await daemon.ready()
            os.kill(old, signal.SIGSTOP)
            _, new, _ = await daemon.supervisor.replace()
            assert await daemon.ready() == new
            await until(lambda: place.alive() == [new])
            assert await daemon.sessions() == b"one"

    in_loop(test)
    assert "worker-sessions-lost" in caplog.text


STEPS = (
    "before the release",
    "after the release",
    "after the state",
    "after the descriptors",
    "before the end",
)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("step", STEPS)
def test_whenever_the_old_one_dies_or_hangs_the_new_one_works_and_is_alone(
    place: Any,
    monkeypatch: pytest.MonkeyPatch,
    in_loop: Any,
    until: Any,
    step: str,
    number: signal.Signals,
) -> None:
    """Its sessions come with it where it could still give them."""
    monkeypatch.setattr("tulle.worker.handover.RELEASE_S", 0.2)
    monkeypatch.setattr(supervise, "STOP_S", 0.2)

    async def test() -> None:
        async with place.daemon("one", "sessions") as daemon:
            old = await daemon.ready()
            daemon.strike = step, "old", number
            replaced, new, _ = await daemon.supervisor.replace()
            assert daemon.strike is None
            assert (replaced, new) == (old, await daemon.ready())
            await until(lambda: place.alive() == [new])
            await until(lambda: list(daemon.supervisor._children) == [new])  # no zombie is left
            assert daemon.supervisor.restarts == 0
            await daemon.supervisor.replace()  # and it hands over in its turn
            last = await daemon.ready()
            assert await daemon.sessions() == (
                b"one from one" if step == STEPS[0] else b"one from one from one"
            )
            await until(lambda: list(daemon.supervisor._children) == [last])
            assert place.alive() == [last]
        async with place.daemon("one", "sessions") as second:
            assert await second.ready() == last  # the path is the last one's

    in_loop(test)


@pytest.mark.parametrize("step", STEPS)
def test_whenever_the_new_one_dies_a_fresh_one_takes_over_and_is_alone(
    place: Any, in_loop: Any, until: Any, step: str
) -> None:
    """The old one's sessions were given away once and are not given again. What died behind its last word has taken
    over and is simply replaced."""

    async def test() -> None:
        async with place.daemon("one", "sessions") as daemon:
            old = await daemon.ready()
            daemon.strike = step, "new", signal.SIGKILL
            await daemon.supervisor.replace()
            assert daemon.strike is None
            await until(lambda: len(daemon.pids) == 3)
            dead, fresh = daemon.pids[1:]
            await until(lambda: place.alive() == [fresh])
            await until(lambda: daemon.session is not None and daemon.session.hello.pid == fresh)
            assert len({old, dead, fresh}) == 3
            assert daemon.supervisor.restarts == 1
            assert await daemon.sessions() == b"one"
            await until(lambda: list(daemon.supervisor._children) == [fresh])

    in_loop(test)


def test_a_worker_of_the_older_protocol_is_found_and_replaced(place: Any, in_loop: Any, until: Any) -> None:
    async def test() -> None:
        async with place.daemon("one", "protocol1") as first:
            old = await first.ready()
            assert first.session is not None
            assert (first.session.protocol, first.session.hello.protocols) == (1, [1])
        async with place.daemon("one") as second:
            new = await second.ready()
            assert second.fetched == [b"first daemon's"]
            assert second.session is not None
            assert second.session.protocol == messages.PROTOCOLS[-1]
            await until(lambda: place.alive() == [new])
            assert new != old

    in_loop(test)


def test_a_daemon_of_the_older_protocol_replaces_a_newer_worker(
    place: Any, monkeypatch: pytest.MonkeyPatch, in_loop: Any, until: Any
) -> None:
    """Somebody went back to the release before."""

    async def test() -> None:
        async with place.daemon("one") as first:
            old = await first.ready()
        monkeypatch.setattr(messages, "PROTOCOLS", (1,))
        async with place.daemon("one", "protocol1") as second:
            new = await second.ready()
            await until(lambda: place.alive() == [new])
            assert new != old

    in_loop(test)
