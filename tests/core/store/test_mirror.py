"""A mirror against the memory store: disconnections, compaction, restarts, slow readers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.contracts.store import (
    Delete,
    Denied,
    KeyValue,
    LeaseId,
    Listing,
    Put,
    Revision,
    Unavailable,
    WatchBatch,
)
from tulle.store.items import Changes, Undecodable
from tulle.store.mirror import Mirror, values
from tulle.testing.clock import VirtualClock
from tulle_memory.store import MemoryStore, MemoryWorld

# The fixture `shelf` is in conftest.py: a memory world, a virtual clock, a client for everybody else.


def _number(kv: KeyValue) -> int | Undecodable:
    return int(kv.value) if kv.value.isdigit() else Undecodable(f"{kv.value!r} is no number")


@asynccontextmanager
async def running(mirror: Mirror[Any], clock: Any) -> AsyncIterator[None]:
    task = asyncio.ensure_future(mirror.run())
    await clock.settle()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _mirror(shelf: Any, store: MemoryStore | None = None, prefix: str = "n/", **more: Any) -> Mirror[int]:
    return Mirror(store or shelf.client(), prefix, _number, clock=shelf.clock, rng=shelf.rng, **more)


async def _put(shelf: Any, **pairs: int | str) -> None:
    available, shelf.world.available = shelf.world.available, True
    await shelf.other.transact([], [Put(f"n/{key}", str(value).encode()) for key, value in pairs.items()])
    shelf.world.available = available


async def _delete(shelf: Any, *keys: str) -> None:
    available, shelf.world.available = shelf.world.available, True
    await shelf.other.transact([], [Delete(f"n/{key}") for key in keys])
    shelf.world.available = available


def _told(changes: Changes[int]) -> tuple[dict[str, int | None], set[str]]:
    return {key: item.value for key, item in changes.upserted.items()}, set(changes.deleted)


def test_the_first_reading_gives_everything_and_later_ones_what_changed(shelf: Any) -> None:
    async def scenario() -> None:
        await _put(shelf, a=1, b=2)
        mirror = _mirror(shelf)
        reader = mirror.subscribe()
        async with running(mirror, shelf.clock):
            first = await reader.next()
            assert _told(first) == ({"n/a": 1, "n/b": 2}, set())
            await _put(shelf, c=3)
            await _delete(shelf, "a")
            await shelf.clock.settle()
            second = await reader.next()
            assert second.synced
            assert _told(second) == ({"n/c": 3}, {"n/a"})
            assert second.deleted["n/a"].value == 1
            late = mirror.subscribe()
            assert _told(await late.next()) == ({"n/b": 2, "n/c": 3}, set())

    asyncio.run(scenario())


def test_the_first_reading_of_an_empty_prefix_returns_too(shelf: Any) -> None:
    async def scenario() -> None:
        mirror = _mirror(shelf)
        reader = mirror.subscribe()
        assert reader.take() is None
        async with running(mirror, shelf.clock):
            assert _told(await reader.next()) == ({}, set())
            assert mirror.synced.is_set()
            assert reader.take() is None

    asyncio.run(scenario())


def test_other_prefixes_and_keys_that_are_not_wanted_are_left_out(shelf: Any) -> None:
    async def scenario() -> None:
        mirror = _mirror(shelf, prefix="n/a", only=lambda key: key == "n/a")
        async with running(mirror, shelf.clock):
            await _put(shelf, a=1, ab=2, b=3)
            await shelf.clock.settle()
            assert values(mirror.items) == {"n/a": 1}

    asyncio.run(scenario())


def test_the_copy_survives_an_outage_and_the_watch_resumes_without_a_listing(shelf: Any) -> None:
    async def scenario() -> None:
        await _put(shelf, a=1, b=2)
        mirror = _mirror(shelf)
        reader = mirror.subscribe()
        async with running(mirror, shelf.clock):
            await reader.next()
            shelf.world.available = False
            await shelf.clock.advance(3600)
            assert values(mirror.items) == {"n/a": 1, "n/b": 2}
            status = mirror.status()
            assert status.state == "away"
            assert shelf.clock.now() - status.since == pytest.approx(3600)
            assert "switched off" in status.last_error
            await _put(shelf, a=5, c=3)
            await _delete(shelf, "b")
            shelf.world.available = True
            await shelf.clock.advance(2)
            assert _told(await reader.next()) == ({"n/a": 5, "n/c": 3}, {"n/b"})
            status = mirror.status()
            assert (status.state, status.relists, status.reconnects) == ("connected", 0, 1)

    asyncio.run(scenario())


def test_after_a_compaction_what_vanished_or_changed_meanwhile_is_told_and_nothing_else(shelf: Any) -> None:
    async def scenario() -> None:
        await _put(shelf, same=1, changed=2, gone=3)
        mirror = _mirror(shelf)
        reader = mirror.subscribe()
        async with running(mirror, shelf.clock):
            await reader.next()
            shelf.world.available = False
            await shelf.clock.advance(1)
            await _delete(shelf, "gone")
            await _put(shelf, changed=4, new=5)
            shelf.world.compact(shelf.world.revision)
            shelf.world.available = True
            await shelf.clock.advance(3)
            assert _told(await reader.next()) == ({"n/changed": 4, "n/new": 5}, {"n/gone"})
            assert mirror.status().relists == 1
            await _put(shelf, later=6)
            await shelf.clock.settle()
            assert _told(await reader.next()) == ({"n/later": 6}, set())

    asyncio.run(scenario())


def test_a_key_that_was_deleted_and_made_anew_during_a_compaction_is_told_once_as_it_is(shelf: Any) -> None:
    async def scenario() -> None:
        await _put(shelf, a=1)
        mirror = _mirror(shelf)
        reader = mirror.subscribe()
        async with running(mirror, shelf.clock):
            await reader.next()
            shelf.world.available = False
            await shelf.clock.advance(1)
            await _delete(shelf, "a")
            await _put(shelf, a=1)
            shelf.world.compact(shelf.world.revision)
            shelf.world.available = True
            await shelf.clock.advance(3)
            assert _told(await reader.next()) == ({"n/a": 1}, set())

    asyncio.run(scenario())


def test_a_value_that_makes_no_sense_is_a_problem_and_its_key_is_still_there(
    shelf: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        await _put(shelf, good=1, bad="junk")
        mirror = _mirror(shelf)
        reader = mirror.subscribe()
        async with running(mirror, shelf.clock):
            assert _told(await reader.next()) == ({"n/good": 1, "n/bad": None}, set())
            assert mirror.problems == {"n/bad": "b'junk' is no number"}
            assert mirror.status().problems == 1
            await _put(shelf, bad=2, good="worse")
            await shelf.clock.settle()
            assert _told(await reader.next()) == ({"n/bad": 2, "n/good": None}, set())
            assert set(mirror.problems) == {"n/good"}
            await _delete(shelf, "good")
            await shelf.clock.settle()
            assert mirror.problems == {}

    asyncio.run(scenario())
    lines = [message for message in caplog.messages if message.startswith("bad-record")]
    assert lines == ["bad-record: n/bad: b'junk' is no number; its value is ignored until it is put right"]


def test_a_closed_reader_costs_nothing_and_a_shared_bell_serves_two_mirrors(shelf: Any) -> None:
    async def scenario() -> None:
        one, two = _mirror(shelf, prefix="n/a"), _mirror(shelf, prefix="n/b")
        bell = asyncio.Event()
        with one.subscribe(bell) as a, two.subscribe(bell) as b:
            async with running(one, shelf.clock), running(two, shelf.clock):
                assert a.take() is not None
                assert b.take() is not None
                await _put(shelf, b1=1)
                await shelf.clock.settle()
                assert bell.is_set()
                assert a.take() is None
                assert (changes := b.take()) is not None
                assert set(changes.upserted) == {"n/b1"}
        assert not one._readers
        assert not two._readers

    asyncio.run(scenario())


class _DenyingStore(MemoryStore):
    """Refuses to list until `allowed`."""

    allowed = False
    tries = 0

    async def list(
        self, prefix: str, *, revision: Revision | None = None, keys_only: bool = False
    ) -> Listing:
        self.tries += 1
        if not self.allowed:
            raise Denied("user 'tulle' may not read n/: grant the role")
        return await super().list(prefix, revision=revision, keys_only=keys_only)


def test_a_refusal_is_reported_tried_again_slowly_and_gets_better(
    shelf: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        store = _DenyingStore(shelf.world)
        mirror = _mirror(shelf, store)
        async with running(mirror, shelf.clock):
            await shelf.clock.advance(100)
            assert store.tries == 11
            assert "grant the role" in mirror.status().last_error
            store.allowed = True
            await shelf.clock.advance(10)
            assert mirror.status().state == "connected"

    asyncio.run(scenario())
    assert [message.split(":")[0] for message in caplog.messages] == [
        "store-denied",
        "store-away",
        "store-back",
    ]


def test_an_expired_lease_takes_its_keys_out_of_the_mirror(shelf: Any) -> None:
    async def scenario() -> None:
        lease = await shelf.other.grant(30)
        await shelf.other.transact([], [Put("n/a", b"1", lease)])
        mirror = _mirror(shelf)
        async with running(mirror, shelf.clock):
            assert mirror.items["n/a"].kv.lease == LeaseId(lease)
            await shelf.clock.advance(31)
            assert mirror.items == {}

    asyncio.run(scenario())


def test_20000_items_apply_in_a_tenth_of_a_second(shelf: Any) -> None:
    # The best of three, and twice the aim: this machine may be busy with other tests.
    kvs = [
        KeyValue(f"n/{number}", b"1", Revision(number + 1), Revision(number + 1), 1)
        for number in range(20_000)
    ]
    took = []
    for _ in range(3):
        mirror = Mirror(shelf.client(), "n/", lambda kv: kv.version, clock=shelf.clock, rng=shelf.rng)
        reader = mirror.subscribe()
        start = time.process_time()
        mirror._apply_listing(Listing(kvs, Revision(20_000)))
        changes = reader.take()
        took.append(time.process_time() - start)
        assert changes is not None
        assert len(changes.upserted) == 20_000
    assert min(took) < 0.2


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.sampled_from(["cut", "return", "compact", "pass", "take"]), st.just(""), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(ACTS, st.integers(0, 1000))
def test_whatever_happens_the_copy_ends_as_the_store_and_no_reader_misses_a_state(
    acts: list[tuple[str, str, int]], seed: int
) -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        world = MemoryWorld(clock.now)
        other = world.client()
        mirror = Mirror(world.client(), "n/", _number, clock=clock, rng=random.Random(seed))
        reader = mirror.subscribe()
        told: dict[str, int | None] = {}

        def read() -> None:
            changes = reader.take()
            if changes is not None:
                assert changes.deleted.keys() <= told.keys()
                for key in changes.deleted:
                    del told[key]
                told.update({key: item.value for key, item in changes.upserted.items()})

        async def write(op: Put | Delete) -> None:
            was, world.available = world.available, True
            await other.transact([], [op])
            world.available = was

        async with running(mirror, clock):
            for act, key, number in acts:
                if act == "put":
                    await write(Put(f"n/{key}", str(number).encode()))
                elif act == "delete":
                    await write(Delete(f"n/{key}"))
                elif act in ("cut", "return"):
                    world.available = act == "return"
                elif act == "compact":
                    world.compact(world.revision)
                elif act == "take":
                    read()
                else:
                    await clock.advance(1)
            world.available = True
            await clock.advance(10)
            read()
            there = {kv.key: int(kv.value) for kv in (await other.list("n/")).items}
            assert values(mirror.items) == there
            assert told == there

    asyncio.run(scenario())


def test_a_store_that_ends_every_watch_as_soon_as_it_stands_is_asked_less_and_less_often(shelf: Any) -> None:
    """As behind a load balancer that cuts every connection. One that stood for a while is opened again soon."""

    class Brief(MemoryStore):
        opened: ClassVar[list[float]] = []

        async def watch(self, prefix: str, *, after: Revision) -> AsyncGenerator[WatchBatch, None]:
            self.opened.append(shelf.clock.now())
            yield WatchBatch((), after, synced=True)
            if len(self.opened) == 20:
                await shelf.clock.sleep(60)
            raise Unavailable("cut")

    async def scenario() -> None:
        async with running(_mirror(shelf, Brief(shelf.world)), shelf.clock):
            await shelf.clock.advance(150)
        waits = [after - before for before, after in pairwise(Brief.opened)]
        assert all(1 <= wait <= 2 for wait in waits[5:19])
        assert 60 <= waits[19] <= 60.1

    asyncio.run(scenario())
