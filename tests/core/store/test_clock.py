"""The machine's clock, and waiting for an event with a limit."""

from __future__ import annotations

import asyncio
import time

from tulle.store.clock import SystemClock, wait_for_event
from tulle.testing.clock import VirtualClock


def test_the_system_clock_counts_the_time_that_the_machine_sleeps() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = SystemClock().now()
    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_the_system_clock_sleeps_about_as_long_as_asked() -> None:
    async def scenario() -> float:
        clock = SystemClock()
        start = clock.now()
        await clock.sleep(0.02)
        await clock.sleep(-1)
        return clock.now() - start

    assert 0.015 <= asyncio.run(scenario()) < 2


def test_a_wait_ends_by_the_event_or_by_the_time_and_tells_which() -> None:
    async def scenario() -> None:
        clock, event = VirtualClock(start=0.0), asyncio.Event()
        assert not await clock.run(wait_for_event(clock, event, 5))
        assert clock.now() == 5
        waiting = asyncio.ensure_future(wait_for_event(clock, event, 5))
        await clock.settle()
        event.set()
        assert await waiting
        assert clock.now() == 5
        assert await wait_for_event(clock, event, 5)

    asyncio.run(scenario())
