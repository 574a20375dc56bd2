"""Holding a name: who is dead, who is alive, and who only seems so."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest

from tulle.contracts.store import NO_LEASE, Denied, Put
from tulle.lease.allocate import Me
from tulle.lease.errors import DuplicateNode
from tulle.lease.identity import ALIVE_RENEW_S, ALIVE_TTL_S, NameHolder
from tulle.store.publisher import Publisher, RecordSet
from tulle.store.retry import OutageLog
from tulle.testing.clock import VirtualClock
from tulle_memory.store import MemoryWorld

KEY = "/p/alive/n1"
OTHER = b'{"ID":"another disk","BootID":"boot"}'
OURS = b'{"ID":"disk","BootID":"boot"}'


class Place:
    """A store, its time, and one who wants the name n1."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.world = MemoryWorld(self.clock.now)
        self.clock.on_move.append(self.world.expire)
        self.store, self.other = self.world.client(), self.world.client()
        how: dict[str, Any] = {"clock": self.clock, "rng": random.Random(1)}
        how["outages"] = OutageLog(logging.getLogger("test"), "memory", self.clock)
        self.publisher = Publisher(self.store, **how)
        self.holder = NameHolder(self.store, self.publisher, KEY, **how)

    async def held_by(self, value: bytes = OTHER, ttl_s: int | None = ALIVE_TTL_S) -> Any:
        lease = await self.other.grant(ttl_s) if ttl_s else NO_LEASE
        await self.other.transact([], [Put(KEY, value, lease)])
        return lease

    async def hold(self, boot: str = "boot", within: float = 300) -> RecordSet:
        return await self.clock.run(self.holder.hold(Me("n1", "disk", boot, {})), within)


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.mark.parametrize(
    ("value", "ttl_s"),
    [(None, None), (OURS, ALIVE_TTL_S), (OTHER, None), (b"junk", None)],
    ids=["nobody", "ourselves before a restart", "debris without a lease", "debris without sense"],
)
def test_a_name_that_nobody_else_can_hold_is_had_at_once(
    place: Place, value: bytes | None, ttl_s: int | None
) -> None:
    async def scenario() -> None:
        if value is not None:
            await place.held_by(value, ttl_s)
        began = place.clock.now()
        kept = await place.hold()
        assert place.clock.now() == began
        kv = place.world.get(KEY)
        assert kv is not None
        assert (kv.value, kv.lease) == (OURS, kept.records.lease)
        assert place.world.remaining(kv.lease) == ALIVE_TTL_S

    asyncio.run(scenario())


@pytest.mark.parametrize("boot", ["boot", "another boot"])
def test_a_dead_holders_name_is_had_when_its_time_is_over_and_not_before(place: Place, boot: str) -> None:
    async def scenario() -> None:
        await place.held_by(OTHER if boot == "boot" else OURS)
        await place.clock.advance(4)
        began = place.clock.now()
        await place.hold(boot)
        assert ALIVE_TTL_S - 4 <= place.clock.now() - began <= ALIVE_TTL_S - 2

    asyncio.run(scenario())


def test_a_holder_that_renews_twice_is_alive(place: Place) -> None:
    async def scenario() -> None:
        lease = await place.held_by()

        async def live() -> None:
            while True:
                await place.clock.sleep(ALIVE_RENEW_S)
                await place.other.keepalive(lease)

        living = asyncio.ensure_future(live())
        began = place.clock.now()
        with pytest.raises(DuplicateNode, match="node id another disk, boot id boot"):
            await place.hold()
        assert place.clock.now() - began <= 2 * ALIVE_RENEW_S + 2
        living.cancel()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "after_s", [[20], [3, 4, 5], [25, 26]], ids=["one", "three at once", "two late ones"]
)
def test_requests_of_a_dead_holder_that_arrive_late_are_no_life(place: Place, after_s: list[int]) -> None:
    """What a process had sent before it was killed, through a line that was frozen, comes all together."""

    async def scenario() -> None:
        lease = await place.held_by()

        async def arrive() -> None:
            for moment in after_s:
                await place.clock.sleep(began + moment - place.clock.now())
                await place.other.keepalive(lease)

        began = place.clock.now()
        late = asyncio.ensure_future(arrive())
        await place.hold()
        assert place.clock.now() - began <= after_s[-1] + ALIVE_TTL_S + 2
        await late

    asyncio.run(scenario())


def test_a_name_that_another_takes_while_we_wait_is_refused(place: Place) -> None:
    async def scenario() -> None:
        await place.held_by()

        async def quicker() -> None:
            await place.clock.sleep(20)
            await place.held_by(b'{"ID":"third","BootID":"boot"}')

        other = asyncio.ensure_future(quicker())
        with pytest.raises(DuplicateNode, match="third"):
            await place.hold()
        await other

    asyncio.run(scenario())


def test_a_holder_whose_record_cannot_be_read_is_told_of_as_such(place: Place) -> None:
    async def scenario() -> None:
        lease = await place.held_by(b"junk")

        async def live() -> None:
            while True:
                await place.clock.sleep(ALIVE_RENEW_S)
                await place.other.keepalive(lease)

        living = asyncio.ensure_future(live())
        with pytest.raises(DuplicateNode, match="whose record cannot be read"):
            await place.hold()
        living.cancel()

    asyncio.run(scenario())


def test_of_two_that_find_a_name_free_at_once_one_has_it(place: Place) -> None:
    async def scenario() -> None:
        rivals = [place.holder.hold(Me("n1", f"disk {number}", "boot", {})) for number in range(5)]
        running = asyncio.ensure_future(place.publisher.run())
        ended = await place.clock.run(_all(rivals), 300)
        assert sum(isinstance(end, RecordSet) for end in ended) == 1
        assert sum(isinstance(end, DuplicateNode) for end in ended) == 4
        running.cancel()

    asyncio.run(scenario())


async def _all(parts: list[Any]) -> list[Any]:
    return await asyncio.gather(*parts, return_exceptions=True)


def test_an_outage_is_waited_out_and_a_refusal_of_the_store_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        place.world.available = False
        get, refusals = place.store.get, iter([Denied("wrong password"), Denied("wrong password")])

        async def refused(key: str) -> Any:
            for refusal in refusals:
                raise refusal
            return await get(key)

        async def back() -> None:
            await place.clock.sleep(50)
            place.world.available = True
            monkeypatch.setattr(place.store, "get", refused)

        returning = asyncio.ensure_future(back())
        await place.hold()
        await returning
        assert place.world.get(KEY) is not None

    asyncio.run(scenario())
