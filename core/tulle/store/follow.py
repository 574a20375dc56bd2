"""A folder of the store as it is, again and again: for who needs no more than what lies there now."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress

from tulle.contracts.store import KeyValue, Store
from tulle.store.clock import Clock
from tulle.store.mirror import Mirror
from tulle.store.retry import OutageLog


async def follow(
    store: Store,
    folder: str,
    *,
    clock: Clock,
    rng: random.Random,
    outages: OutageLog | None = None,
) -> AsyncGenerator[Mapping[str, bytes], None]:
    """All values by what their keys add to `folder` (which ends in "/"): now, and the whole again after each change.
    Without end; while the store is away nothing comes. Close it (`contextlib.aclosing`)."""
    mirror: Mirror[bytes] = Mirror(store, folder, _value, clock=clock, rng=rng, outages=outages)
    task = asyncio.create_task(mirror.run(), name=f"follow {folder}")
    try:
        with mirror.subscribe() as changes:
            while True:
                await changes.next()
                yield {key.removeprefix(folder): item.kv.value for key, item in mirror.items.items()}
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _value(kv: KeyValue) -> bytes:
    return kv.value
