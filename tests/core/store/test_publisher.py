"""What we own stays in the store through lost answers, outages, expiry and other people's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tulle.contracts.store import (
    NO_LEASE,
    Compare,
    Delete,
    Denied,
    KeyValue,
    LeaseId,
    Op,
    Put,
    TxnResult,
    Unavailable,
    absent,
)
from tulle.store.publisher import Conflict, Publisher, RecordSet
from tulle_memory.store import MemoryStore

# The fixture `shelf` is in conftest.py: a memory world, a virtual clock, a client for everybody else.

DAY_S = 86_400
PAIR = {"s/k": b"lease", "m/n": b"member"}


class CountingStore(MemoryStore):
    """Counts what is written, and can lose requests or answers."""

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.writes = 0
        self.keepalives = 0
        self.calls = 0
        self.lose_requests = 0
        self.denied = False

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()
    ) -> TxnResult:
        self.calls += 1
        if self.denied:
            raise Denied("user 'tulle' may not write: grant the role")
        if self.lose_requests:
            self.lose_requests -= 1
            raise Unavailable("lost on the way there")
        self.writes += any(isinstance(op, Put) for op in then)
        return await super().transact(compares, then, otherwise)

    async def keepalive(self, lease: LeaseId) -> float:
        self.keepalives += 1
        return await super().keepalive(lease)


class Desk:
    """A running publisher."""

    def __init__(self, shelf: Any) -> None:
        self.clock = shelf.clock
        self.store = CountingStore(shelf.world)
        self.publisher = Publisher(self.store, clock=shelf.clock, rng=shelf.rng)

    async def put(self, wanted: dict[str, bytes] | None = None, **more: Any) -> RecordSet:
        more = {"ttl_s": DAY_S, "renew_s": 300.0} | more
        return await self.clock.run(self.publisher.put("set", wanted or PAIR, **more))


@asynccontextmanager
async def desk(shelf: Any) -> AsyncIterator[Desk]:
    opened = Desk(shelf)
    task = asyncio.ensure_future(opened.publisher.run())
    try:
        yield opened
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _there(shelf: Any) -> dict[str, bytes]:
    return {kv.key: kv.value for prefix in ("s/", "m/") for kv in (await shelf.other.list(prefix)).items}


async def _kv(shelf: Any, key: str) -> KeyValue:
    kv = await shelf.other.get(key)
    assert kv is not None
    return kv


def test_a_set_is_written_in_one_transaction_under_one_lease(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            lease, member = await _kv(shelf, "s/k"), await _kv(shelf, "m/n")
            assert lease.modified == member.modified
            assert lease.lease == member.lease == kept.records.lease != NO_LEASE
            assert kept.records.known == {"s/k": lease, "m/n": member}

    asyncio.run(scenario())


def test_a_set_lives_as_long_as_it_is_kept_without_being_written_again(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put(ttl_s=1000)
            first = await _kv(shelf, "s/k")
            for _ in range(50):
                await shelf.clock.advance(300)
                (left,) = (await shelf.other.remaining([kept.records.lease])).values()
                assert left >= 700
            assert await _kv(shelf, "s/k") == first
            assert ours.store.writes == 1
            assert 50 <= ours.store.keepalives <= 56
        await shelf.clock.advance(1001)
        assert await _there(shelf) == {}

    asyncio.run(scenario())


def test_a_set_without_ttl_is_a_reservation_and_stays_when_nobody_keeps_it(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            await ours.put(ttl_s=None)
            assert (await _kv(shelf, "s/k")).lease == NO_LEASE
        await shelf.clock.advance(10 * DAY_S)
        assert await _there(shelf) == PAIR

    asyncio.run(scenario())


def test_keys_that_are_there_already_are_not_overwritten_and_our_grant_is_given_back(shelf: Any) -> None:
    async def scenario() -> None:
        await shelf.other.transact([], [Put("s/k", b"theirs")])
        async with desk(shelf) as ours:
            with pytest.raises(Conflict) as caught:
                await ours.put()
            assert caught.value.present["s/k"].value == b"theirs"
            assert caught.value.present["m/n"] is None
            assert "b'theirs'" in str(caught.value)
        assert await _there(shelf) == {"s/k": b"theirs"}
        assert not shelf.world._leases

    asyncio.run(scenario())


def test_a_guard_that_does_not_hold_and_a_deletion_are_part_of_the_transaction(shelf: Any) -> None:
    async def scenario() -> None:
        await shelf.other.transact([], [Put("s/old", b"1")])
        async with desk(shelf) as ours:
            with pytest.raises(Conflict):
                await ours.put(guards=[absent("s/old")], also=[Delete("s/old")])
            assert await _there(shelf) == {"s/old": b"1"}
            await ours.put(also=[Delete("s/old")])
            assert await _there(shelf) == PAIR

    asyncio.run(scenario())


def test_a_put_whose_answer_was_lost_is_recognised_and_not_done_twice(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            shelf.world.lose_answers = 3
            kept = await ours.put()
            assert (await _kv(shelf, "s/k")).version == 1
            assert kept.records.known["s/k"] == await _kv(shelf, "s/k")
            assert not kept.lost.is_set()

    asyncio.run(scenario())


def test_a_put_whose_request_was_lost_is_done(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            ours.store.lose_requests = 3
            await ours.put()
            assert await _there(shelf) == PAIR

    asyncio.run(scenario())


def test_a_put_that_met_a_neighbour_with_the_same_bytes_while_its_request_was_lost_is_a_conflict(
    shelf: Any,
) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            ours.store.lose_requests = 1
            putting = asyncio.ensure_future(ours.publisher.put("set", PAIR, ttl_s=DAY_S, renew_s=300.0))
            await shelf.clock.settle()
            neighbours = await shelf.other.grant(DAY_S)
            await shelf.other.transact([], [Put("s/k", b"lease", neighbours)])
            await shelf.clock.advance(1)
            with pytest.raises(Conflict):
                await putting

    asyncio.run(scenario())


def test_a_put_that_is_cancelled_leaves_nothing_behind(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            shelf.world.lose_answers = 1
            putting = asyncio.ensure_future(ours.publisher.put("set", PAIR, ttl_s=DAY_S, renew_s=300.0))
            await shelf.clock.settle()
            assert await _there(shelf) == PAIR
            putting.cancel()
            await asyncio.gather(putting, return_exceptions=True)
            assert await _there(shelf) == {}

    asyncio.run(scenario())


def test_a_put_is_refused_at_once_where_the_store_denies_it(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            ours.store.denied = True
            with pytest.raises(Denied):
                await ours.put()
            assert not shelf.world._leases

    asyncio.run(scenario())


def test_an_update_compares_and_keeps_the_lease(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            before = await _kv(shelf, "s/k")
            shelf.world.lose_answers = 1
            await shelf.clock.run(ours.publisher.update(kept, {**PAIR, "s/k": b"new"}))
            after = await _kv(shelf, "s/k")
            assert (after.value, after.version, after.lease) == (b"new", 2, before.lease)
            assert (await _kv(shelf, "m/n")).modified == after.modified

    asyncio.run(scenario())


def test_an_update_that_is_cancelled_while_the_store_is_away_is_done_when_it_is_back(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            shelf.world.available = False
            with pytest.raises(TimeoutError):
                await shelf.clock.run(ours.publisher.update(kept, {**PAIR, "s/k": b"new"}), within=10)
            shelf.world.available = True
            await shelf.clock.advance(3)
            assert (await _kv(shelf, "s/k")).value == b"new"

    asyncio.run(scenario())


def test_after_an_outage_longer_than_the_lease_free_keys_are_put_again(
    shelf: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            old_lease = kept.records.lease
            shelf.world.available = False
            kept.check()
            await shelf.clock.advance(3600)
            await shelf.clock.suspend(2 * DAY_S)
            shelf.world.available = True
            await shelf.clock.advance(3)
            assert await _there(shelf) == PAIR
            assert (await _kv(shelf, "s/k")).lease == kept.records.lease != old_lease
            assert not kept.lost.is_set()

    asyncio.run(scenario())
    words = [message.split(":")[0] for message in caplog.messages]
    assert words[0] == "store-lost"
    assert words[-2:] == ["lease-gone", "store-back"]
    assert set(words[1:-2]) == {"store-away"}
    assert 55 <= len(words) <= 64


def test_after_an_outage_a_key_with_a_new_owner_is_left_alone_and_its_loss_is_told(
    shelf: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            told: list[bytes] = []
            kept.when_lost(lambda: told.append(kept.taken.value if kept.taken else b""))
            shelf.world.available = False
            await shelf.clock.suspend(DAY_S)
            shelf.world.available = True
            theirs = await shelf.other.grant(DAY_S)
            await shelf.other.transact([absent("s/k")], [Put("s/k", b"lease", theirs)])
            await shelf.clock.advance(3)
            assert kept.lost.is_set()
            assert told == [b"lease"]
            kept.when_lost(lambda: told.append(b"late"))
            assert told[-1] == b"late"
            await shelf.clock.advance(3000)
            assert (await _kv(shelf, "s/k")).lease == theirs
            assert await shelf.other.get("m/n") is None
            with pytest.raises(Conflict):
                await shelf.clock.run(ours.publisher.update(kept, PAIR))

    asyncio.run(scenario())
    assert any(message.startswith("record-taken: set: s/k") for message in caplog.messages)


def test_a_key_that_was_deleted_by_hand_comes_back_at_the_next_look(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            await shelf.other.transact([], [Delete("s/k")])
            await shelf.clock.advance(601)
            assert await _there(shelf) == PAIR
            await shelf.other.transact([], [Delete("m/n")])
            kept.check()
            await shelf.clock.settle()
            assert await _there(shelf) == PAIR
            assert (await _kv(shelf, "s/k")).modified == (await _kv(shelf, "m/n")).modified

    asyncio.run(scenario())


def test_a_key_overwritten_by_another_while_our_lease_lives_is_lost(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            await shelf.other.transact([], [Put("s/k", b"late renewal", await shelf.other.grant(DAY_S))])
            kept.check()
            await shelf.clock.settle()
            assert kept.lost.is_set()
            assert (await _kv(shelf, "s/k")).value == b"late renewal"

    asyncio.run(scenario())


def test_a_reservation_made_while_we_run_stays_one_through_updates_and_expiry(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            await shelf.other.transact([], [Put("s/k", b"lease")])
            kept.check()
            await shelf.clock.settle()
            assert not kept.lost.is_set()
            await shelf.clock.run(ours.publisher.update(kept, {**PAIR, "s/k": b"new"}))
            assert (await _kv(shelf, "s/k")).lease == NO_LEASE
            await shelf.other.revoke(kept.records.lease)
            await shelf.clock.advance(301)
            assert await _there(shelf) == {**PAIR, "s/k": b"new"}
            assert (await _kv(shelf, "s/k")).lease == NO_LEASE

    asyncio.run(scenario())


def test_after_a_restart_keys_with_a_live_lease_are_adopted_without_a_write(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as before:
            lease = (await before.put()).records.lease
        await shelf.clock.advance(DAY_S - 10)
        known = [await _kv(shelf, "s/k"), await _kv(shelf, "m/n")]
        async with desk(shelf) as after:
            kept = await after.put(known=known, lease=lease)
            assert after.store.writes == 0
            await shelf.clock.advance(DAY_S)
            assert [await _kv(shelf, "s/k"), await _kv(shelf, "m/n")] == known
            assert kept.records.lease == lease
            await shelf.clock.run(after.publisher.update(kept, {**PAIR, "m/n": b"new boot"}))
            assert (await _kv(shelf, "m/n")).lease == lease

    asyncio.run(scenario())


def test_adoption_of_keys_that_changed_hands_is_a_conflict_and_leaves_the_lease(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as before:
            lease = (await before.put()).records.lease
        known = [await _kv(shelf, "s/k"), await _kv(shelf, "m/n")]
        await shelf.other.transact([], [Put("s/k", b"theirs")])
        async with desk(shelf) as after:
            with pytest.raises(Conflict):
                await after.put(known=known, lease=lease)
        assert await _there(shelf) == {**PAIR, "s/k": b"theirs"}

    asyncio.run(scenario())


def test_adoption_of_a_lease_that_has_ended_writes_anew_where_the_keys_are_free(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as before:
            lease = (await before.put()).records.lease
        known = [await _kv(shelf, "s/k"), await _kv(shelf, "m/n")]
        await shelf.clock.advance(DAY_S + 1)
        async with desk(shelf) as after:
            kept = await after.put(known=known, lease=lease)
            assert await _there(shelf) == PAIR
            assert kept.records.lease not in (lease, NO_LEASE)

    asyncio.run(scenario())


def test_release_deletes_what_is_ours_and_spares_a_reservation(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            await ours.publisher.release(kept)
            assert await _there(shelf) == {}
            await shelf.clock.advance(1000)
            assert await _there(shelf) == {}
            reserved = await ours.put(ttl_s=None)
            await ours.publisher.release(reserved, spare={"s/k"})
            assert await _there(shelf) == {"s/k": b"lease"}

    asyncio.run(scenario())


def test_release_while_the_store_is_away_says_so(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            shelf.world.available = False
            with pytest.raises(Unavailable):
                await ours.publisher.release(kept)

    asyncio.run(scenario())


def test_an_hour_of_refusals_is_a_few_tries_a_minute(shelf: Any) -> None:
    async def scenario() -> None:
        async with desk(shelf) as ours:
            kept = await ours.put()
            ours.store.denied = True
            kept.check()
            calls = ours.store.calls
            await shelf.clock.advance(3600)
            assert 300 <= ours.store.calls - calls <= 361
            ours.store.denied = False
            await shelf.clock.advance(11)
            assert kept.renewed >= shelf.clock.now() - 11

    asyncio.run(scenario())
