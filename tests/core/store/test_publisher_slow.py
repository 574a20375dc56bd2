"""A store whose answers take long, or come after the machine has slept: a lease's end is counted from the question."""

from __future__ import annotations

import asyncio
from typing import Any

from tulle.contracts.store import LeaseId
from tulle.store.publisher import Publisher
from tulle_memory.store import MemoryStore


class SlowStore(MemoryStore):
    """Answers each keepalive after `slow_s`."""

    slow_s = 0.0
    clock: Any = None

    async def keepalive(self, lease: LeaseId) -> float:
        left_s = await super().keepalive(lease)
        if self.slow_s:
            await self.clock.sleep(self.slow_s)
        return left_s


def test_a_late_answer_makes_a_lease_no_younger(shelf: Any) -> None:
    async def scenario() -> None:
        store = SlowStore(shelf.world)
        store.clock = shelf.clock
        publisher = Publisher(store, clock=shelf.clock, rng=shelf.rng)
        task = asyncio.ensure_future(publisher.run())
        try:
            kept = await shelf.clock.run(publisher.put("set", {"k": b"v"}, ttl_s=3600, renew_s=100.0))
            assert kept.renewed == shelf.clock.now()
            store.slow_s = 50.0
            await shelf.clock.advance(100 + 50)
            assert kept.renewed <= shelf.clock.now() - 50
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
