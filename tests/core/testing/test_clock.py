"""The clock that tests move by hand."""

from __future__ import annotations

import asyncio

import pytest

from tulle.testing.clock import VirtualClock


def test_sleepers_wake_at_their_own_moment_and_in_order() -> None:
    async def scenario() -> None:
        clock, woken = VirtualClock(start=0.0), []

        async def sleeper(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append((seconds, clock.now()))

        tasks = [asyncio.ensure_future(sleeper(seconds)) for seconds in (3, 1, 2, 1, 0)]
        await clock.advance(2)
        assert woken == [(0, 0), (1, 1), (1, 1), (2, 2)]
        await clock.advance(1)
        assert woken[-1] == (3, 3)
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_what_follows_from_a_wake_up_happens_before_the_next_one() -> None:
    async def scenario() -> None:
        clock, seen = VirtualClock(start=0.0), []

        async def ticker() -> None:
            for _ in range(5):
                await clock.sleep(1)
                seen.append(clock.now())

        task = asyncio.ensure_future(ticker())
        await clock.advance(10)
        assert seen == [1, 2, 3, 4, 5]
        assert clock.now() == 10
        await task

    asyncio.run(scenario())


def test_a_suspended_machine_wakes_late_and_only_once() -> None:
    async def scenario() -> None:
        clock, seen = VirtualClock(start=0.0), []

        async def ticker() -> None:
            for _ in range(2):
                await clock.sleep(1)
                seen.append(clock.now())

        task = asyncio.ensure_future(ticker())
        await clock.suspend(100)
        assert seen == [100]
        await clock.advance(1)
        assert seen == [100, 101]
        await task

    asyncio.run(scenario())


def test_run_moves_the_time_only_as_far_as_the_work_needs() -> None:
    async def scenario() -> None:
        clock = VirtualClock(start=0.0)

        async def work() -> str:
            await clock.sleep(7)
            return "done"

        assert await clock.run(work()) == "done"
        assert clock.now() == 7

    asyncio.run(scenario())


def test_run_gives_up_on_work_that_takes_too_long_or_waits_for_nothing() -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        with pytest.raises(TimeoutError):
            await clock.run(clock.sleep(11), within=10)
        with pytest.raises(TimeoutError):
            await clock.run(_forever())
        await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_cancelled_sleeper_is_forgotten() -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        task = asyncio.ensure_future(clock.sleep(5))
        await clock.settle()
        task.cancel()
        await clock.advance(10)
        assert task.cancelled()

    asyncio.run(scenario())


def test_on_move_is_called_before_the_sleepers_go_on() -> None:
    async def scenario() -> None:
        clock, seen = VirtualClock(start=0.0), []
        clock.on_move.append(lambda: seen.append(("move", clock.now())))

        async def sleeper() -> None:
            await clock.sleep(2)
            seen.append(("woken", clock.now()))

        task = asyncio.ensure_future(sleeper())
        await clock.advance(3)
        assert seen == [("move", 2), ("woken", 2), ("move", 3)]
        await task

    asyncio.run(scenario())


async def _forever() -> None:
    await asyncio.Event().wait()
