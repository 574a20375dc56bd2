"""Watches, listings and records against one real etcd behind a line that is cut, frozen and slow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from tulle.contracts.store import Event, LeaseGone, Put, Revision, Store, Unavailable
from tulle.testing.etcd import EtcdServer
from tulle.testing.faults.storeclient import PREFIX, StoreClient
from tulle.testing.relay import Relay
from tulle_etcd.store import EtcdStore, open_store

pytestmark = pytest.mark.etcd

BACK_S = 5.0
Settings = Callable[[list[str]], dict[str, Any]]


@asynccontextmanager
async def opened(port: int) -> AsyncIterator[EtcdStore]:
    store = open_store({"etcd-endpoints": [f"http://127.0.0.1:{port}"]})
    try:
        yield store
    finally:
        await store.close()


async def put(store: Store, key: str, value: bytes = b"") -> Revision:
    return (await store.transact([], [Put(PREFIX + key, value)])).revision


# Every event exactly once


async def follow(store: Store, after: Revision, last: str) -> list[Event]:
    """All events until that key's, over as many watches as it takes."""
    events: list[Event] = []
    while True:
        try:
            async with aclosing(store.watch(PREFIX, after=after)) as batches:
                async for batch in batches:
                    events += batch.events
                    after = batch.revision
                    if events and events[-1].kv.key == PREFIX + last:
                        return events
        except Unavailable:
            await asyncio.sleep(0.02)


async def cut_at_any_moment(line: Relay, times: int, rng: random.Random) -> None:
    """Each cut hits a line that stands, in one of the ways in which lines end."""
    for number in range(times):
        seen = line.accepted
        while line.accepted == seen and number:
            await asyncio.sleep(0.01)
        await asyncio.sleep(rng.uniform(0.02, 0.15))
        rng.choice([line.drop, line.cut])()


@pytest.mark.parametrize(
    ("count", "cuts"),
    [
        pytest.param(2_000, 5),
        pytest.param(20_000, 20, marks=pytest.mark.soak),
    ],
)
def test_a_watch_shows_every_event_exactly_once_across_forced_disconnections(
    etcd: EtcdServer, count: int, cuts: int
) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(300),
            Relay(etcd.client_port) as line,
            opened(etcd.client_port) as writer,
            opened(line.port) as reader,
        ):
            start = await put(writer, "start")
            following = asyncio.create_task(follow(reader, start, "end"))
            cutting = asyncio.create_task(cut_at_any_moment(line, cuts, random.Random(count)))
            # Every second key is written again and again, so that order and not only presence is seen. What is to
            # come waits for the cuts: all of them hit a stream of events.
            number = 0
            while number < count or not cutting.done():
                some = range(number, number + 50)
                await asyncio.gather(*(put(writer, f"{one % 2 and one}", b"%d" % one) for one in some))
                number += len(some)
                if number % (count // (2 * cuts)) == 0:
                    await asyncio.sleep(0.05)
            await cutting
            await put(writer, "end")
            events = await following
            assert line.accepted > cuts
        revisions = [event.kv.modified for event in events]
        assert revisions == list(range(start + 1, start + 2 + number)), "all, once, in order"
        assert {event.kv.value for event in events[:-1]} == {b"%d" % one for one in range(number)}

    asyncio.run(run())


def test_a_watch_that_ends_while_it_catches_up_goes_on_with_the_very_next_event(etcd: EtcdServer) -> None:
    """etcd sends a long history in portions of 1,000 revisions, each with the newest revision in its header: who
    resumed there would miss the rest."""
    count = 2_500

    async def run() -> None:
        async with asyncio.timeout(60), opened(etcd.client_port) as store:
            start = after = await put(store, "start")
            await asyncio.gather(*(put(store, f"{number}") for number in range(count)))
            seen: list[Revision] = []
            while len(seen) < count:
                async with aclosing(store.watch(PREFIX, after=after)) as batches:
                    async for batch in batches:
                        after = batch.revision
                        if batch.events:
                            seen += [event.kv.modified for event in batch.events]
                            break
            assert seen == list(range(start + 1, start + 1 + count))

    asyncio.run(run())


# History that is gone


def test_a_compaction_while_disconnected_shows_what_vanished_changed_and_came(etcd: EtcdServer) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(60),
            Relay(etcd.client_port) as line,
            opened(etcd.client_port) as other,
            StoreClient(open_store({"etcd-endpoints": [f"http://127.0.0.1:{line.port}"]}), "n1") as n1,
        ):
            await put(other, "changes", b"old")
            await other.transact([], [Put(PREFIX + "vanishes", b"", lease := await other.grant(60))])
            await n1.until(lambda report: {"n1", "changes", "vanishes"} <= set(report.nodes), BACK_S)
            await line.refuse()
            await put(other, "changes", b"new")
            await other.revoke(lease)
            await put(other, "comes")
            etcd.compact()
            etcd.defragment()
            assert "vanishes" in n1.report().nodes, "what is known stays in use"
            await line.accept()
            wanted = {"n1": "", "changes": "new", "comes": ""}
            await n1.until(lambda report: report.nodes == wanted and report.connected, BACK_S)
            assert n1.report().relists == 1

    asyncio.run(run())


# Leases


@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
def test_a_lease_that_expires_during_a_partition_is_put_again_or_lost_to_its_new_owner(
    etcd: EtcdServer, taken: bool
) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(60),
            Relay(etcd.client_port) as line,
            opened(etcd.client_port) as other,
            StoreClient(
                open_store({"etcd-endpoints": [f"http://127.0.0.1:{line.port}"]}), "n1", value="mine", ttl_s=1
            ) as n1,
        ):
            await n1.until(lambda report: "n1" in report.nodes, BACK_S)
            line.freeze()  # a partition: nothing is refused, and what was sent may arrive when it heals
            async with asyncio.timeout(10):
                while await other.get(PREFIX + "n1"):
                    await asyncio.sleep(0.05)
            if taken:
                await put(other, "n1", b"theirs")
            assert not n1.report().lost
            line.thaw()
            if taken:
                await n1.until(lambda report: report.lost and report.nodes["n1"] == "theirs", BACK_S * 2)
                await asyncio.sleep(1.5)  # a late renewal would come within a renewal's time
                found = await other.get(PREFIX + "n1")
                assert found is not None
                assert (found.value, found.version) == (b"theirs", 1)
            else:
                await n1.until(lambda report: report.nodes.get("n1") == "mine", BACK_S * 2)
                assert not n1.report().lost

    asyncio.run(run())


def test_a_lease_of_an_etcd_that_was_down_for_longer_is_gone_or_kept_but_never_unknown(
    etcd: EtcdServer,
) -> None:
    """A leader that starts gives every lease its whole time again, so a restart takes nobody's record."""

    async def run() -> None:
        async with asyncio.timeout(60), opened(etcd.client_port) as store:
            lease = await store.grant(2)
            etcd.kill()
            await asyncio.sleep(3)
            etcd.start()
            async with asyncio.timeout(BACK_S):
                while True:
                    try:
                        assert await store.keepalive(lease) == 2
                        return
                    except Unavailable:
                        await asyncio.sleep(0.1)
                    except LeaseGone:
                        pytest.fail("a restart of etcd took a lease")

    asyncio.run(run())


# Sizes


def test_answers_far_above_4_mb_are_read_listed_and_watched(etcd: EtcdServer) -> None:
    large = random.Random(1).randbytes(6 << 20)

    async def run() -> None:
        async with asyncio.timeout(60), opened(etcd.client_port) as store:
            start = await put(store, "large", large)
            found = await store.get(PREFIX + "large")
            assert found is not None
            assert found.value == large
            for number in range(60):
                await put(store, f"many/{number}", large[:400_000])
            listing = await store.list(PREFIX)
            assert sum(len(item.value) for item in listing.items) == len(large) + 60 * 400_000
            await put(store, "large", large[::-1])  # its event carries both values
            async with aclosing(store.watch(PREFIX, after=start)) as batches:
                events: list[Event] = []
                async for batch in batches:
                    events += batch.events
                    if events and events[-1].kv.key == PREFIX + "large":
                        break
            assert len(events) == 61
            assert events[-1].kv.value == large[::-1]
            assert events[-1].previous is not None
            assert events[-1].previous.value == large

    asyncio.run(run())
