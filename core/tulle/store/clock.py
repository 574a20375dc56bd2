"""The time that daemons live by: monotonic, and going on while the machine sleeps.

Leases at the store run out while this machine is suspended, so "now" is CLOCK_BOOTTIME (clock_gettime(2)), which
counts suspended time and which no change of the wall clock moves.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

_SLICE_S = 10.0
"""Timers of the event loop stand still while the machine sleeps: a long sleep looks at the clock this often."""


class Clock(Protocol):
    """What tells the time and waits; tests give a `tulle.testing.clock.VirtualClock`."""

    def now(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        end = self.now() + seconds
        left = seconds
        while left > _SLICE_S:
            await asyncio.sleep(_SLICE_S)
            left = end - self.now()
        await asyncio.sleep(max(left, 0))


async def wait_for_event(clock: Clock, event: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, at most so long. Returns whether it is set."""
    if event.is_set():
        return True
    tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep(seconds))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    await asyncio.wait(tasks)  # and not `await task`: our own cancellation must stay one
    return event.is_set()
