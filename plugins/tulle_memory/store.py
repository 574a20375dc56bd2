"""The memory store: a world that several clients of one process share, with faults that tests can switch on.

One event loop at a time; the state itself is plain dictionaries, changed between two awaits.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter

import msgspec

from tulle.contracts.store import (
    Compacted,
    Compare,
    Event,
    Health,
    KeyValue,
    LeaseId,
    Listing,
    Op,
    Revision,
    TxnResult,
    Unavailable,
    WatchBatch,
)
from tulle.store import mvcc

FIRST_REVISION = Revision(1)
"""Of an empty store, as etcd's."""
_SHORTEST_WAIT_S = 0.02
"""A clock that stands still (a virtual one) must not make waiting watches spin."""


class _Lease(msgspec.Struct):
    ttl_s: int
    expires: float


class MemoryWorld:
    """The state that clients share. `clock` gives seconds and never goes back; leases expire by it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lose_answers = 0
        """So many of the next transactions are executed and then raise Unavailable: the reply is lost."""
        self.revision = FIRST_REVISION
        self.compacted = FIRST_REVISION
        """Listings from this revision on, and watches after it or later, still work."""
        self._clock = clock
        self._available = True
        self._keys: dict[str, KeyValue] = {}
        self._events: list[Event] = []
        self._leases: dict[LeaseId, _Lease] = {}
        self._last_lease = 0
        self._bells: set[asyncio.Event] = set()

    def client(self) -> MemoryStore:
        """A further client, with a life of its own."""
        return MemoryStore(self)

    @property
    def available(self) -> bool:
        """False: each call and each watch raises Unavailable. Leases go on running out."""
        return self._available

    @available.setter
    def available(self, value: bool) -> None:
        self._available = value
        self.ring()

    def expire(self) -> None:
        """Delete what has expired by now. Calls do this by themselves; watches need it after a virtual clock
        was moved."""
        now = self._clock()
        for lease in [lease for lease, entry in self._leases.items() if entry.expires <= now]:
            self.end_lease(lease)

    def compact(self, revision: Revision) -> None:
        """Forget the history up to and including `revision`."""
        if not self.compacted <= revision <= self.revision:
            raise ValueError(f"revision {revision} is not within {self.compacted}..{self.revision}")
        del self._events[: self._behind(revision)]
        self.compacted = revision
        self.ring()

    # What follows is for MemoryStore.

    def get(self, key: str) -> KeyValue | None:
        return self._keys.get(key)

    def knows_lease(self, lease: LeaseId) -> bool:
        return lease in self._leases

    def apply(self, event: Event) -> None:
        if event.kind == "put":
            self._keys[event.kv.key] = event.kv
        else:
            del self._keys[event.kv.key]
        self._events.append(event)

    def listing(self, prefix: str, revision: Revision | None) -> Listing:
        at = self.revision if revision is None else revision
        self._check_history(at)
        items = (kv for kv in self._keys.values() if kv.key.startswith(prefix))
        younger = reversed(self._events[self._behind(at) :])
        undone = (event for event in younger if event.kv.key.startswith(prefix))
        return Listing(mvcc.undo(items, undone), at)

    def changes(self, prefix: str, after: Revision) -> list[Event]:
        self._check_history(after)
        return [event for event in self._events[self._behind(after) :] if event.kv.key.startswith(prefix)]

    def transact(self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]) -> TxnResult:
        result = mvcc.execute(self, self.revision, compares, then, otherwise)
        self._advance(result.revision)
        return result

    def grant(self, ttl_s: int) -> LeaseId:
        self._last_lease += 1
        lease = LeaseId(self._last_lease)
        self._leases[lease] = _Lease(ttl_s, self._clock() + ttl_s)
        return lease

    def renew(self, lease: LeaseId) -> float:
        entry = self._leases.get(lease)
        if entry is None:
            raise mvcc.lease_gone(lease)
        entry.expires = self._clock() + entry.ttl_s
        return float(entry.ttl_s)

    def end_lease(self, lease: LeaseId) -> None:
        if self._leases.pop(lease, None) is None:
            return
        doomed = [self._keys[key] for key in sorted(self._keys) if self._keys[key].lease == lease]
        revision = Revision(self.revision + 1)
        for kv in doomed:
            self.apply(mvcc.delete_event(kv, revision))
        if doomed:
            self._advance(revision)

    def remaining(self, lease: LeaseId) -> float | None:
        entry = self._leases.get(lease)
        return None if entry is None else entry.expires - self._clock()

    def until_next_expiry(self) -> float | None:
        if not self._leases:
            return None
        soonest = min(entry.expires for entry in self._leases.values())
        return max(soonest - self._clock(), _SHORTEST_WAIT_S)

    def subscribe(self) -> asyncio.Event:
        bell = asyncio.Event()
        self._bells.add(bell)
        return bell

    def unsubscribe(self, bell: asyncio.Event) -> None:
        self._bells.discard(bell)

    def ring(self) -> None:
        """Make all watches look again."""
        for bell in self._bells:
            bell.set()

    def _advance(self, revision: Revision) -> None:
        if revision != self.revision:
            self.revision = revision
            self.ring()

    def _behind(self, revision: Revision) -> int:
        """Index of the first event after that revision."""
        return bisect_right(self._events, revision, key=attrgetter("kv.modified"))

    def _check_history(self, revision: Revision) -> None:
        if not self.compacted <= revision <= self.revision:
            raise Compacted(
                f"the memory store knows revisions {self.compacted}..{self.revision}, not {revision}: "
                "list again"
            )


class MemoryStore:
    """One client of a `MemoryWorld`; see `contracts.store.Store`."""

    name = "memory"
    location = "memory of this process"
    single_machine = True

    def __init__(self, world: MemoryWorld | None = None) -> None:
        self.world = world if world is not None else MemoryWorld()
        self._closed = False
        self._available = True

    @property
    def available(self) -> bool:
        """False: this client alone is cut off; its calls and watches raise Unavailable."""
        return self._available

    @available.setter
    def available(self, value: bool) -> None:
        self._available = value
        self.world.ring()

    async def get(self, key: str) -> KeyValue | None:
        await self._enter()
        mvcc.check_key(key)
        return self.world.get(key)

    async def list(
        self, prefix: str, *, revision: Revision | None = None, keys_only: bool = False
    ) -> Listing:
        await self._enter()
        listing = self.world.listing(prefix, revision)
        if not keys_only:
            return listing
        return Listing([mvcc.without_value(kv) for kv in listing.items], listing.revision)

    async def watch(self, prefix: str, *, after: Revision) -> AsyncGenerator[WatchBatch, None]:
        bell = self.world.subscribe()
        try:
            await self._enter()
            events, synced = self.world.changes(prefix, after), True
            while True:
                after = self.world.revision
                if events or synced:
                    yield WatchBatch(events, after, synced)
                synced = False
                self._check_usable()
                while self.world.revision == after:
                    await self._wait(bell)
                events = self.world.changes(prefix, after)
        finally:
            self.world.unsubscribe(bell)

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()
    ) -> TxnResult:
        await self._enter()
        result = self.world.transact(compares, then, otherwise)
        if self.world.lose_answers > 0:
            self.world.lose_answers -= 1
            raise Unavailable("the memory store's answer was lost, as the test asked: read back")
        return result

    async def grant(self, ttl_s: int) -> LeaseId:
        await self._enter()
        if ttl_s <= 0:
            raise ValueError(f"a lease of {ttl_s} s would be gone at once: ask for at least 1")
        return self.world.grant(ttl_s)

    async def keepalive(self, lease: LeaseId) -> float:
        await self._enter()
        return self.world.renew(lease)

    async def revoke(self, lease: LeaseId) -> None:
        await self._enter()
        self.world.end_lease(lease)

    async def remaining(self, leases: Collection[LeaseId]) -> Mapping[LeaseId, float]:
        await self._enter()
        left = {lease: self.world.remaining(lease) for lease in leases}
        return {lease: seconds for lease, seconds in left.items() if seconds is not None}

    async def health(self) -> Health:
        await self._enter()
        return Health(self.location, 0.0, "1")

    async def close(self) -> None:
        self._closed = True
        self.world.ring()

    async def _enter(self) -> None:
        """What every call begins with. It gives way to other tasks, as a call to a real store would, so that
        races between clients show."""
        await asyncio.sleep(0)
        self._check_usable()
        self.world.expire()

    async def _wait(self, bell: asyncio.Event) -> None:
        """Until something may have changed, or a lease may have expired."""
        with suppress(TimeoutError):  # nobody rang, but it is time to look for expired leases
            # Not wait_for: before Python 3.12 that loses a cancellation that comes together with the bell.
            async with asyncio.timeout(self.world.until_next_expiry()):
                await bell.wait()
        bell.clear()
        self._check_usable()
        self.world.expire()

    def _check_usable(self) -> None:
        if self._closed:
            raise Unavailable("this client of the memory store is closed: open another one")
        if not (self.available and self.world.available):
            raise Unavailable("the memory store is switched off: try again later")


def open_memory(settings: Mapping[str, object]) -> MemoryStore:
    """A client of a new, empty world. It has no settings."""
    return MemoryStore()
