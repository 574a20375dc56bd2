"""Contract of a store's watches: every change, once, in order, whatever happens in between."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tulle.contracts.store import Compacted, Delete, Event, Put, Revision, Store, StoreError
from tulle.testing.store_clients import (
    PATIENCE_S,
    Clients,
    StoreTests,
    head,
    put,
    transact_all,
    watching,
    with_clients,
)


def _told(events: list[Event]) -> list[tuple[str, str, bytes, Revision]]:
    return [(event.kind, event.kv.key, event.kv.value, event.kv.modified) for event in events]


class WatchTests(StoreTests):
    @with_clients
    async def test_the_first_batch_says_that_the_watch_stands(self, clients: Clients) -> None:
        store = await clients.open()
        await put(store, "p/old")
        watcher = await clients.watch(store, "p/", await head(store))
        assert (await watcher.batch()).synced
        await put(store, "p/new")
        assert [event.kv.key for event in await watcher.until("p/new")] == ["p/new"]

    @with_clients
    async def test_an_event_tells_the_change_and_what_was_there_before(self, clients: Clients) -> None:
        store = await clients.open()
        watcher = await clients.watch(store, "k", await head(store))
        await put(store, "k", b"1")
        first = await store.get("k")
        await put(store, "k", b"2")
        second = await store.get("k")
        deleted = (await store.transact([], [Delete("k")])).revision
        await put(store, "k/end")
        made, changed, gone, _ = await watcher.until("k/end")
        assert (made.kind, made.kv, made.previous) == ("put", first, None)
        assert (changed.kind, changed.kv, changed.previous) == ("put", second, first)
        assert (gone.kind, gone.kv.key, gone.kv.value) == ("delete", "k", b"")
        assert (gone.kv.modified, gone.previous) == (deleted, second)

    @with_clients
    async def test_every_watch_sees_what_all_clients_write_once_and_in_order(self, clients: Clients) -> None:
        writers = [await clients.open() for _ in range(3)]
        start = await head(writers[0])
        watchers = [
            await clients.watch(store, "p/", start) for store in (await clients.open(), await clients.open())
        ]

        async def write(number: int, store: Store) -> list[tuple[Revision, str, bytes]]:
            return [
                (await put(store, f"p/{number}", b"%d" % turn), f"p/{number}", b"%d" % turn)
                for turn in range(60)
            ]

        written = await asyncio.gather(*[write(number, store) for number, store in enumerate(writers)])
        await put(writers[0], "p/end")
        expected = sorted(change for changes in written for change in changes)
        for watcher in watchers:
            events = await watcher.until("p/end")
            seen = [(event.kv.modified, event.kv.key, event.kv.value) for event in events[:-1]]
            assert seen == expected

    @with_clients
    async def test_a_watch_of_one_prefix_sees_nothing_of_others(self, clients: Clients) -> None:
        store = await clients.open()
        watcher = await clients.watch(store, "a/b", await head(store))
        await transact_all(store, [Put(key, b"") for key in ("a/b", "a/bc", "a/c", "a", "a/", "b", "a/b/c")])
        await put(store, "a/b/end")
        seen = [event.kv.key for event in await watcher.until("a/b/end")]
        assert sorted(seen) == ["a/b", "a/b/c", "a/b/end", "a/bc"]

    @with_clients
    async def test_a_watch_of_everything_has_an_empty_prefix(self, clients: Clients) -> None:
        store = await clients.open()
        watcher = await clients.watch(store, "", await head(store))
        for key in ("a", "ÿ", "\U0010ffff"):
            await put(store, key)
        assert [event.kv.key for event in await watcher.until("\U0010ffff")] == ["a", "ÿ", "\U0010ffff"]

    @with_clients
    async def test_all_events_of_a_revision_come_in_one_batch(self, clients: Clients) -> None:
        store = await clients.open()
        watcher = await clients.watch(store, "p/", await head(store))
        for turn in range(30):
            await store.transact([], [Put(f"p/{number}", b"%d" % turn) for number in range(90)])
        await store.transact([], [Put("p/end", b""), *[Delete(f"p/{number}") for number in range(90)]])
        await watcher.until("p/end")
        revisions = [{event.kv.modified for event in batch.events} for batch in watcher.batches]
        assert sum(map(len, revisions)) == 31
        assert len(watcher.events) == 31 * 90 + 1
        for earlier, later in pairwise(batch for batch in watcher.batches if batch.events):
            assert earlier.events[-1].kv.modified < later.events[0].kv.modified

    @with_clients
    async def test_a_watch_that_begins_in_the_past_tells_the_past_first(self, clients: Clients) -> None:
        store = await clients.open()
        revisions = [await put(store, "p/k", b"%d" % number) for number in range(10)]
        watcher = await clients.watch(store, "p/", revisions[3])
        await put(store, "p/end")
        events = await watcher.until("p/end")
        assert [event.kv.value for event in events[:-1]] == [b"4", b"5", b"6", b"7", b"8", b"9"]

    @with_clients
    async def test_a_watch_that_resumes_after_its_last_batch_misses_and_repeats_nothing(
        self, clients: Clients
    ) -> None:
        store, writer = await clients.open(), await clients.open()
        start = position = await head(store)
        seen: list[Event] = []

        async def write() -> None:
            for number in range(150):
                ops = [Put(f"p/{number}/a", b""), Put(f"p/{number}/b", b"")]
                await writer.transact([], ops)
                await asyncio.sleep(0)
            await put(writer, "p/end")

        writing = asyncio.create_task(write())
        while not seen or seen[-1].kv.key != "p/end":
            async with watching(store, "p/", position) as watcher:
                for _ in range(3):
                    seen += (await watcher.batch()).events
                    if seen and seen[-1].kv.key == "p/end":
                        break
                position = watcher.revision
        await writing
        whole = await clients.watch(store, "p/", start)
        assert _told(seen) == _told(await whole.until("p/end"))
        assert len(seen) == 301

    @with_clients
    async def test_a_watch_can_resume_from_its_first_batch(self, clients: Clients) -> None:
        store = await clients.open()
        start = await head(store)
        for number in range(5):
            await put(store, f"p/{number}")
        first = await clients.watch(store, "p/", start)
        await first.batch()
        second = await clients.watch(store, "p/", first.revision)
        await put(store, "p/end")
        seen = [event.kv.key for event in first.events + await second.until("p/end")]
        assert seen == ["p/0", "p/1", "p/2", "p/3", "p/4", "p/end"]

    @with_clients
    async def test_a_slow_reader_loses_nothing(self, clients: Clients) -> None:
        store, writer = await clients.open(), await clients.open()
        watcher = await clients.watch(store, "p/", await head(store))
        await watcher.batch()
        for number in range(1_500):
            await put(writer, "p/k", b"%d" % number)
        await put(writer, "p/end")
        values = [event.kv.value for event in (await watcher.until("p/end"))[:-1]]
        assert values == [b"%d" % number for number in range(1_500)]

    @with_clients
    async def test_what_changes_nothing_is_no_event(self, clients: Clients) -> None:
        store = await clients.open()
        watcher = await clients.watch(store, "", await head(store))
        await store.transact([], [Delete("nobody")])
        await put(store, "end")
        assert [event.kv.key for event in await watcher.until("end")] == ["end"]

    @with_clients
    async def test_a_watch_from_a_compacted_revision_is_refused_and_from_a_listing_works(
        self, clients: Clients
    ) -> None:
        store = await clients.open()
        revisions = [await put(store, "k", b"%d" % number) for number in range(6)]
        await self.compact(store, revisions[4])
        refused = await clients.watch(store, "", revisions[0])
        with pytest.raises(Compacted):
            await refused.until("never")
        for after in (revisions[4], await head(store)):
            watcher = await clients.watch(store, "", after)
            await put(store, "end")
            assert (await watcher.until("end"))[-1].kv.key == "end"

    @with_clients
    async def test_a_watch_that_is_up_to_date_survives_compaction(self, clients: Clients) -> None:
        store, other = await clients.open(), await clients.open()
        watcher = await clients.watch(store, "", await head(store))
        for number in range(5):
            last = await put(other, f"p/{number}")
        await watcher.until("p/4")
        await self.compact(other, last)
        await put(other, "end")
        assert [event.kv.key for event in await watcher.until("end")][-2:] == ["p/4", "end"]

    @with_clients
    async def test_cancelling_a_reader_ends_its_watch_and_no_other(self, clients: Clients) -> None:
        store = await clients.open()
        start = await head(store)
        watcher = await clients.watch(store, "", start)

        async def read() -> None:
            async with watching(store, "", start) as doomed:
                await doomed.until("never")

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(reading, PATIENCE_S)
        await put(store, "end")
        assert [event.kv.key for event in await watcher.until("end")] == ["end"]

    @pytest.mark.parametrize("turns", range(8))
    @with_clients
    async def test_a_cancellation_is_not_lost_when_a_change_comes_with_it(
        self, clients: Clients, turns: int
    ) -> None:
        store = await clients.open()
        batches = store.watch("", after=await head(store))
        await anext(batches)

        async def read() -> None:
            await anext(batches)
            await asyncio.sleep(PATIENCE_S)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        writing = asyncio.create_task(put(store, "k"))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await writing
        await asyncio.wait([reading], timeout=PATIENCE_S / 2)
        assert reading.cancelled()

    @with_clients
    async def test_closing_the_client_ends_its_watches(self, clients: Clients) -> None:
        store = await clients.open()
        watcher = await clients.watch(store, "", await head(store))
        await watcher.batch()
        waiting = asyncio.create_task(watcher.batch())
        await asyncio.sleep(0.1)
        await store.close()
        with pytest.raises((StoreError, StopAsyncIteration)):
            await waiting
