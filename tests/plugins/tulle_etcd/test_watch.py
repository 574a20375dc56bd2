"""Watches that meet cut lines, frozen peers, compaction, rebuilt clusters and large revisions."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from tulle.contracts.store import Compacted, Event, Put, Revision, Store, Unavailable
from tulle.testing.etcd import EtcdServer
from tulle.testing.relay import Relay
from tulle_etcd.store import EtcdStore
from tulle_etcd.watch import PROBE_S, QUIET_S

pytestmark = pytest.mark.etcd

NOTICED_S = 15.0  # the contract's limit


async def put(store: Store, key: str, value: bytes = b"") -> Revision:
    return (await store.transact([], [Put(key, value)])).revision


async def until_it_ends(store: Store, prefix: str, after: Revision) -> float:
    """Seconds from the call to the end by Unavailable."""
    start = time.monotonic()
    with pytest.raises(Unavailable):
        async for _ in store.watch(prefix, after=after):
            pass
    return time.monotonic() - start


def test_five_cuts_of_the_line_lose_nothing_and_repeat_nothing(etcd: EtcdServer, connected: Any) -> None:
    cuts, keys_between = 5, 500

    async def write(store: Store, cut: list[asyncio.Event]) -> None:
        for number in range(cuts + 1):
            first = number * keys_between
            await asyncio.gather(*(put(store, f"/w/{first + key}") for key in range(keys_between)))
            if number < cuts:
                await cut[number].wait()

    async def follow(
        store: EtcdStore, revision: Revision, line: Relay, cut: list[asyncio.Event]
    ) -> list[Event]:
        """All events. The line is cut after the first batch of each round, with more of the round under way."""
        events: list[Event] = []
        ends = 0
        while True:
            try:
                async with aclosing(store.watch("/w/", after=revision)) as batches:
                    async for batch in batches:
                        events += batch.events
                        revision = batch.revision
                        if ends < cuts and len(events) > ends * keys_between and not cut[ends].is_set():
                            line.drop()
                            cut[ends].set()
                        if len(events) >= (cuts + 1) * keys_between:
                            assert ends == cuts
                            return events
            except Unavailable:
                ends += 1

    async def body() -> None:
        async with (
            Relay(etcd.client_port) as line,
            connected(etcd.endpoints) as writer,
            connected([f"http://127.0.0.1:{line.port}"]) as reader,
        ):
            start = await put(writer, "/before")
            cut = [asyncio.Event() for _ in range(cuts)]
            follower = asyncio.create_task(follow(reader, start, line, cut))
            await asyncio.wait_for(write(writer, cut), 30)
            events = await asyncio.wait_for(follower, 30)
        revisions = [event.kv.modified for event in events]
        assert revisions == sorted(set(revisions))
        assert {event.kv.key for event in events} == {f"/w/{key}" for key in range((cuts + 1) * keys_between)}

    asyncio.run(body())


def test_a_frozen_etcd_ends_a_watch_in_time(own_etcd: EtcdServer, connected: Any) -> None:
    async def body() -> None:
        async with connected(own_etcd.endpoints) as store:
            start = await put(store, "/a")
            own_etcd.freeze()
            assert await until_it_ends(store, "/", start) < NOTICED_S

    asyncio.run(body())


def test_a_line_that_goes_dead_under_a_quiet_watch_is_noticed_in_time(
    etcd: EtcdServer, connected: Any
) -> None:
    async def body() -> None:
        async with Relay(etcd.client_port) as line, connected([f"http://127.0.0.1:{line.port}"]) as store:
            start = await put(store, "/a")
            watch = store.watch("/", after=start)
            assert (await anext(watch)).synced
            line.freeze()
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await anext(watch)
            assert time.monotonic() - began < NOTICED_S

    asyncio.run(body())


def test_a_quiet_watch_on_a_healthy_etcd_lives_on(etcd: EtcdServer, connected: Any) -> None:
    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            start = await put(store, "/a")
            async with aclosing(store.watch("/quiet/", after=start)) as watch:
                assert (await anext(watch)).synced
                event = asyncio.create_task(anext(watch))
                await asyncio.sleep(QUIET_S + PROBE_S + 0.5)
                assert not event.done()
                await put(store, "/quiet/a")
                assert [one.kv.key for one in (await asyncio.wait_for(event, 1)).events] == ["/quiet/a"]

    asyncio.run(body())


def test_closing_a_watch_ends_it_at_etcd_too(etcd: EtcdServer, connected: Any) -> None:
    def watchers() -> int:
        for line in etcd.metrics().splitlines():
            name, _, value = line.partition(" ")
            if name == "etcd_debugging_mvcc_watcher_total":
                return int(float(value))
        raise AssertionError("etcd does not tell how many watchers it has")

    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            before = watchers()
            watch = store.watch("/", after=await put(store, "/a"))
            await anext(watch)
            assert watchers() == before + 1
            await watch.aclose()
            for _ in range(100):
                if watchers() == before:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError("etcd still has the watcher after 2 s")

    asyncio.run(body())


def test_a_compaction_while_the_watch_was_away_is_told(own_etcd: EtcdServer, connected: Any) -> None:
    async def body() -> None:
        async with connected(own_etcd.endpoints) as store:
            start = await put(store, "/a")
            for _ in range(3):
                await put(store, "/a")
            own_etcd.compact()
            with pytest.raises(Compacted, match="list again"):
                async for _ in store.watch("/", after=start):
                    pass
            with pytest.raises(Compacted):
                await store.list("/", revision=start)

    asyncio.run(body())


def test_a_cluster_rebuilt_from_nothing_does_not_leave_the_watch_waiting(
    own_etcd: EtcdServer, connected: Any
) -> None:
    async def body() -> None:
        async with connected(own_etcd.endpoints) as store:
            for number in range(5):
                start = await put(store, f"/{number}")
            own_etcd.wipe()
            own_etcd.start()
            with pytest.raises(Compacted, match="rebuilt"):
                async for _ in store.watch("/", after=start):
                    pass
            with pytest.raises(Compacted):
                await store.list("/", revision=start)

    asyncio.run(body())


def test_one_revision_larger_than_an_answer_comes_as_one_batch(etcd: EtcdServer, connected: Any) -> None:
    keys, value = [f"/big/{number:02}" for number in range(20)], bytes(1_200_000)

    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            lease = await store.grant(60)
            for key in keys:
                last = (await store.transact([], [Put(key, value, lease)])).revision
            await store.revoke(lease)  # all keys go at one revision, each with 1.2 MB of what it was
            await put(store, "/big/end")
            batches = []
            async with aclosing(store.watch("/big/", after=last)) as watch:
                async for batch in watch:
                    batches.append(batch)
                    if batch.events and batch.events[-1].kv.key == "/big/end":
                        break
            gone = [event for batch in batches for event in batch.events if event.kind == "delete"]
            assert [event.kv.key for event in gone] == keys
            assert all(event.previous and event.previous.value == value for event in gone)
            holders = [batch for batch in batches if any(event.kind == "delete" for event in batch.events)]
            assert len(holders) == 1

    asyncio.run(body())


def test_an_unreachable_etcd_ends_a_watch_at_once(connected: Any) -> None:
    async def body() -> None:
        async with connected(["http://127.0.0.1:1"]) as store:
            assert await until_it_ends(store, "/", Revision(1)) < 1

    asyncio.run(body())


def test_closing_the_store_ends_its_watches(etcd: EtcdServer, connected: Any) -> None:
    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            start = await put(store, "/a")
            ending = asyncio.create_task(until_it_ends(store, "/", start))
            await asyncio.sleep(0.2)
            await store.close()
            assert await asyncio.wait_for(ending, 2) < 2

    asyncio.run(body())
