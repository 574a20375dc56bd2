"""What the parts of the store's contract test share: clients that are closed again, watches with a time limit."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from tulle.contracts.store import (
    NO_LEASE,
    Event,
    KeyValue,
    LeaseId,
    Op,
    Put,
    Revision,
    Store,
    WatchBatch,
)

PATIENCE_S = 15.0
"""An event that did not come by then will not come."""
_LOOK_AGAIN_S = 0.05
OPS_IN_TRANSACTION = 100
"""etcd refuses more than 128 unless it is told otherwise."""


class StoreTests:
    """What a store brings to its tests; see `store_contract.StoreContract`."""

    async def open_store(self) -> Store:
        raise NotImplementedError(f"{type(self).__name__} must override open_store")

    async def compact(self, store: Store, revision: Revision) -> None:
        raise NotImplementedError(f"{type(self).__name__} must override compact")

    async def expire(self, store: Store, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Clients:
    """Opens further clients of the test's store."""

    def __init__(self, tests: StoreTests, stack: AsyncExitStack) -> None:
        self._tests = tests
        self._stack = stack

    async def open(self) -> Store:
        store = await self._tests.open_store()
        self._stack.push_async_callback(store.close)
        return store

    async def watch(self, store: Store, prefix: str, after: Revision) -> Watcher:
        """A watch that is closed before its client is, at the end of the test."""
        return await self._stack.enter_async_context(watching(store, prefix, after))


class Watcher:
    """Reads a watch, and keeps what came."""

    def __init__(self, batches: AsyncIterator[WatchBatch], after: Revision) -> None:
        self._batches = batches
        self.batches: list[WatchBatch] = []
        self.revision = after
        """To resume from."""

    async def batch(self) -> WatchBatch:
        async with asyncio.timeout(PATIENCE_S):
            batch = await anext(self._batches)
        self.batches.append(batch)
        self.revision = batch.revision
        return batch

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.events]

    async def until(self, key: str) -> list[Event]:
        """All events so far, once that key has changed. A test that says "nothing else comes" writes a last key
        and waits for that, instead of waiting for nothing."""
        while not any(event.kv.key == key for event in self.events):
            await self.batch()
        return self.events


@asynccontextmanager
async def watching(store: Store, prefix: str, after: Revision) -> AsyncIterator[Watcher]:
    """A watch that is closed at the end, as the contract wants it closed."""
    batches = store.watch(prefix, after=after)
    try:
        yield Watcher(batches, after)
    finally:
        assert inspect.isasyncgen(batches), "watch() must return an async generator"
        async with asyncio.timeout(PATIENCE_S):
            await batches.aclose()


Tests = TypeVar("Tests", bound=StoreTests)
P = ParamSpec("P")


def with_clients(
    body: Callable[Concatenate[Tests, Clients, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[Tests, P], None]:
    """Makes a pytest test of an `async def test_…(self, clients, …)`: runs it in a loop of its own and closes
    what it opened."""

    def test(self: Tests, /, *args: P.args, **kwargs: P.kwargs) -> None:
        async def run() -> None:
            async with AsyncExitStack() as stack:
                await body(self, Clients(self, stack), *args, **kwargs)

        asyncio.run(run())

    functools.update_wrapper(test, body)
    # pytest takes a test's arguments for names of fixtures: `clients` is not one.
    signature = inspect.signature(body)
    others = [parameter for name, parameter in signature.parameters.items() if name != "clients"]
    test.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    return test


async def put(store: Store, key: str, value: bytes = b"", lease: LeaseId = NO_LEASE) -> Revision:
    """Write one key; the revision at which it was written."""
    return (await store.transact([], [Put(key, value, lease)])).revision


async def transact_all(store: Store, ops: Sequence[Op]) -> None:
    """Many writes in as few transactions as stores allow."""
    for start in range(0, len(ops), OPS_IN_TRANSACTION):
        await store.transact([], ops[start : start + OPS_IN_TRANSACTION])


async def existing(store: Store, key: str) -> KeyValue:
    """A key that must be there."""
    found = await store.get(key)
    assert found is not None, f"{key!r} is not in the store"
    return found


async def keys(store: Store, prefix: str) -> list[str]:
    return [kv.key for kv in (await store.list(prefix)).items]


async def head(store: Store) -> Revision:
    """The store's present revision."""
    return (await store.list("")).revision


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until it is so; for what a store does in its own time, such as expiry."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while not await condition():
        assert loop.time() < deadline, f"did not happen within {PATIENCE_S:.0f} s: {what}"
        await asyncio.sleep(_LOOK_AGAIN_S)
