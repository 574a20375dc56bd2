"""The memory store keeps the contract of stores, and has the faults that tests switch on."""

from __future__ import annotations

import asyncio

import pytest

from tulle.contracts.specs import load
from tulle.contracts.store import Compacted, Put, Revision, Store, Unavailable
from tulle.testing.store_contract import StoreContract
from tulle_memory import tulle_stores
from tulle_memory.store import MemoryStore, MemoryWorld


class VirtualTime:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class TestMemoryStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _world(self) -> None:
        self.clock = VirtualTime()
        self.world = MemoryWorld(self.clock)

    async def open_store(self) -> Store:
        return self.world.client()

    async def compact(self, store: Store, revision: Revision) -> None:
        self.world.compact(revision)

    async def expire(self, store: Store, seconds: float) -> None:
        self.clock.now += seconds
        self.world.expire()


def test_with_a_real_clock_a_watch_sees_an_expiry_though_nobody_calls() -> None:
    async def run() -> None:
        store = MemoryStore()
        watch = store.watch("", after=store.world.revision)
        assert (await anext(watch)).synced
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        lease = await store.grant(1)  # while the watch waits already
        await store.transact([], [Put("k", b"", lease)])
        assert [event.kind for event in (await waiting).events] == ["put"]
        batch = await asyncio.wait_for(anext(watch), 10)
        assert [event.kind for event in batch.events] == ["delete"]
        await watch.aclose()

    asyncio.run(run())


def test_a_switched_off_world_refuses_every_call_and_ends_waiting_watches() -> None:
    async def run() -> None:
        world = MemoryWorld()
        store = world.client()
        watch = store.watch("", after=world.revision)
        await anext(watch)
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0.01)
        world.available = False
        with pytest.raises(Unavailable):
            await asyncio.wait_for(waiting, 5)
        for call in (
            store.get("k"),
            store.list(""),
            store.transact([], []),
            store.grant(1),
            store.health(),
            anext(store.watch("", after=world.revision)),
        ):
            with pytest.raises(Unavailable):
                await call
        world.available = True
        assert await store.get("k") is None

    asyncio.run(run())


def test_one_client_can_be_cut_off_from_a_world_that_goes_on() -> None:
    async def run() -> None:
        world = MemoryWorld()
        cut_off, other = world.client(), world.client()
        watch = cut_off.watch("", after=world.revision)
        await anext(watch)
        cut_off.available = False
        with pytest.raises(Unavailable):
            await anext(watch)
        with pytest.raises(Unavailable):
            await cut_off.get("k")
        await other.transact([], [Put("k", b"")])
        cut_off.available = True
        assert await cut_off.get("k") is not None

    asyncio.run(run())


def test_a_watch_that_is_being_read_while_the_world_goes_away_ends_too() -> None:
    async def run() -> None:
        world = MemoryWorld()
        store = world.client()
        watch = store.watch("", after=world.revision)
        await anext(watch)
        await store.transact([], [Put("k", b"")])
        world.available = False
        with pytest.raises(Unavailable):
            await anext(watch)

    asyncio.run(run())


def test_a_lost_answer_was_executed_all_the_same() -> None:
    async def run() -> None:
        store = MemoryStore()
        store.world.lose_answers = 1
        with pytest.raises(Unavailable):
            await store.transact([], [Put("k", b"1")])
        assert (await store.list("")).items[0].value == b"1"
        await store.transact([], [Put("k", b"2")])
        assert (await store.list("")).items[0].value == b"2"

    asyncio.run(run())


def test_a_revision_that_never_was_is_refused() -> None:
    async def run() -> None:
        store = MemoryStore()
        future = Revision(store.world.revision + 1)
        with pytest.raises(Compacted, match="list again"):
            await store.list("", revision=future)
        with pytest.raises(Compacted):
            await anext(store.watch("", after=future))
        with pytest.raises(ValueError, match="not within"):
            store.world.compact(future)

    asyncio.run(run())


def test_a_lease_without_a_time_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        asyncio.run(MemoryStore().grant(0))


def test_the_hook_names_a_factory_that_makes_separate_worlds() -> None:
    (spec,) = tulle_stores()
    factory = load(spec.factory)
    one, two = factory({}), factory({})
    assert one.name == spec.name == "memory"
    assert one.world is not two.world
    assert one.world.client().world is one.world
