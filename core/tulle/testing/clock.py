"""A clock that tests move by hand: hours of keepalives pass in milliseconds, always in the same order."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_TURNS = 100_000
"""Event loop turns after which `settle` calls it a spin."""


class VirtualClock:
    """A `tulle.store.clock.Clock`. It stands still until `advance` or `run` moves it.

    `on_move` is called after each step of the time and before those who slept until then go on; give it what has
    to look at the time by itself: `clock.on_move.append(world.expire)`.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self.on_move: list[Callable[[], object]] = []
        self._now = start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + seconds, self._count, woken))
        await woken

    async def settle(self) -> None:
        """Let all tasks run until each waits for time or for I/O. Threads and real sockets are not waited for."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # nothing public tells it
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if not ready:
                return
        raise AssertionError(f"tasks still run after {_TURNS} turns of the event loop: one of them spins")

    async def advance(self, seconds: float) -> None:
        """Move the time forward. Each sleeper wakes at its own moment, in order, and everything that follows
        from it happens before the next one wakes."""
        end = self._now + seconds
        await self.settle()
        while (moment := self._next_deadline()) is not None and moment <= end:
            self._step(moment)
            await self.settle()
        self._move(end)
        await self.settle()

    async def suspend(self, seconds: float) -> None:
        """The machine sleeps so long: the time moves at once, then all who are late wake up."""
        await self.settle()
        self._move(self._now + seconds)
        await self.advance(0)

    async def run(self, work: Coroutine[Any, Any, Result], within: float = 86400.0) -> Result:
        """Do some work, moving the time whenever everything waits for it. Raises TimeoutError where it is not
        done when `within` seconds have passed."""
        task, end = asyncio.ensure_future(work), self._now + within
        await self.settle()
        while not task.done():
            moment = self._next_deadline()
            if moment is None or moment > end:
                task.cancel()
                raise TimeoutError(f"not done after {within} virtual seconds")
            self._step(moment)
            await self.settle()
        return task.result()

    def _next_deadline(self) -> float | None:
        while self._sleepers and self._sleepers[0][2].done():  # cancelled meanwhile
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _step(self, moment: float) -> None:
        self._move(moment)
        _, _, woken = heapq.heappop(self._sleepers)
        woken.set_result(None)

    def _move(self, moment: float) -> None:
        self._now = max(self._now, moment)
        for call in self.on_move:
            call()
