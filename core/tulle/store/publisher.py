"""The publisher: keeps what we own in the store, for as long as we live.

put       grant a lease, one transaction, known outcome    update   compare the revision, put
keep      keepalive; lease gone: compare, then put         release  revoke
A record set is never put over a value of somebody else: where that is there, the set is lost and its owner is told.
An answer that was lost on the way (Unavailable) is no problem: the same transaction is sent again, its compares fail
if it was executed, and the reads of its other branch show our own writing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from tulle.contracts.store import (
    NO_LEASE,
    Compare,
    Delete,
    Denied,
    KeyValue,
    LeaseGone,
    LeaseId,
    Op,
    Store,
    StoreError,
    Unavailable,
    unchanged,
)
from tulle.store.clock import Clock, wait_for_event
from tulle.store.records import Present, Records
from tulle.store.retry import Backoff, OutageLog

CHECK_S = 300.0
"""A keepalive does not show that a key was deleted or overwritten by hand: look at the keys this often."""
_ROUNDS = 8
"""Tries at keys that change under us, before we wait a moment."""

_log = logging.getLogger("tulle.store.publisher")


class Conflict(Exception):
    """The keys are not ours to write: they are not as the caller knew them, or have a new owner."""

    def __init__(self, name: str, present: Present) -> None:
        self.present = dict(present)
        found = ", ".join(f"{key}: {'absent' if kv is None else kv.value!r}" for key, kv in present.items())
        super().__init__(f"{name} was not written, the store has {found}")


class RecordSet:
    """A handle on what is kept. `lost` is set when another has taken one of the keys; `taken` is that key then, and
    `present` all that was there in place of ours."""

    def __init__(self, name: str, records: Records, ttl_s: int | None, renew_s: float) -> None:
        self.name = name
        self.records = records
        self.ttl_s = ttl_s
        self.renew_s = renew_s
        self.lost = asyncio.Event()
        self.taken: KeyValue | None = None
        self.present: Present = {}
        self._tell: Callable[[], None] | None = None
        self.renewed = float("-inf")
        """When the last call that the store confirmed was made, by the clock: a lease's end is counted from there."""
        self._checked = float("-inf")
        self._released = False
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()

    @property
    def over(self) -> bool:
        """Lost or released: nothing is kept any more."""
        return self._released or self.lost.is_set()

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call this once when the set is lost; at once where it is already."""
        if self.lost.is_set():
            tell()
        else:
            self._tell = tell

    def check(self) -> None:
        """Look at the keys soon: something may have happened to them."""
        self._checked = float("-inf")
        self._wake.set()


class Publisher:
    """See the module. `run` must run as a task for what is put to be kept."""

    def __init__(
        self, store: Store, *, clock: Clock, rng: random.Random, outages: OutageLog | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._outages = outages or OutageLog(_log, f"{store.name} at {store.location}", clock)
        self._new: asyncio.Queue[RecordSet] = asyncio.Queue()

    async def run(self) -> None:
        """Never ends by itself. What is kept stays in the store when this is cancelled, and runs out there."""
        async with asyncio.TaskGroup() as group:
            while True:
                kept = await self._new.get()
                group.create_task(self._keep(kept), name=f"keep {kept.name}")

    async def put(
        self,
        name: str,
        wanted: Mapping[str, bytes],
        *,
        ttl_s: int | None,
        renew_s: float,
        known: Iterable[KeyValue] = (),
        lease: LeaseId = NO_LEASE,
        lasting: Collection[str] = (),
        guards: Sequence[Compare] = (),
        also: Sequence[Op] = (),
    ) -> RecordSet:
        """Write a set and keep it; waits while the store is away.

        `known`: the keys that are there now; all others must be absent. `lease`: the live store lease that they
        hang on, to go on with it (adoption: no write where the values are equal). Without `ttl_s` nothing
        expires; `lasting` names single keys that do not. `guards` and `also` are further conditions and
        operations of the one transaction. Raises Conflict where a condition does not hold, Denied."""
        records = Records(wanted, known=known, lease=lease, lasting=wanted if ttl_s is None else lasting)
        kept = RecordSet(name, records, ttl_s, renew_s)
        try:
            await self._persist(kept, lambda: self._create(kept, guards, also))
        except BaseException:
            if records.lease != lease:  # ours; also where we are cancelled: a write on its way finds no lease
                await self._drop_lease(kept)
            raise
        self._new.put_nowait(kept)
        return kept

    async def update(self, kept: RecordSet, wanted: Mapping[str, bytes]) -> None:
        """Other values for the same keys; waits while the store is away. Raises Conflict where the set is lost.
        Cancelled, it is done later by `run`."""
        kept.records.want(wanted)
        try:
            await self._persist(kept, lambda: self._settle(kept))
        finally:
            kept._wake.set()

    async def release(self, kept: RecordSet, spare: Collection[str] = ()) -> None:
        """Delete what is still ours, except those lasting keys that `spare` names (a reservation stays). Raises
        StoreError where the store does not answer: then the set runs out by itself."""
        kept._released = True
        kept._wake.set()
        self._outages.forget(kept.name)
        async with kept._lock:
            for key in kept.records.lasting - set(spare):
                known = kept.records.known.get(key)
                if known is not None:
                    await self._store.transact([unchanged(key, known.modified)], [Delete(key)])
            if kept.records.lease != NO_LEASE:
                await self._store.revoke(kept.records.lease)

    async def _persist(self, kept: RecordSet, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try until the store has answered. Denied is the caller's, Conflict is the end of a set in being."""
        backoff = Backoff(self._rng)
        while True:
            try:
                async with kept._lock:
                    asked = self._clock.now()
                    await attempt()
            except Unavailable as failure:
                self._outages.failed(kept.name, failure)
                await self._clock.sleep(backoff.wait_s())
                continue
            except (Conflict, Denied):
                self._outages.forget(kept.name)
                raise
            self._outages.worked(kept.name)
            kept.renewed = kept._checked = asked
            return

    async def _create(self, kept: RecordSet, guards: Sequence[Compare], also: Sequence[Op]) -> None:
        """One try of the first transaction."""
        records = kept.records
        if records.lease != NO_LEASE:
            await self._keepalive(kept)
        while True:
            await self._grant_if_needed(kept)
            then = [*records.puts(), *also] if records.needs_write() or also else []
            try:
                result = await self._store.transact([*records.compares(), *guards], then, records.gets())
            except LeaseGone:
                records.lease_gone()
                continue
            if result.succeeded:
                if then:
                    records.written(result.revision)
                return
            if records.recognise(result.found):
                return
            raise Conflict(kept.name, result.found)

    async def _keep(self, kept: RecordSet) -> None:
        """The life of a set after its creation."""
        backoff = Backoff(self._rng)
        wait_s = self._renewal_s(kept)
        while not kept.over:
            await wait_for_event(self._clock, kept._wake, wait_s)
            kept._wake.clear()
            try:
                async with kept._lock:
                    if kept.over:
                        break
                    await self._tend(kept)
            except Conflict:
                break
            except StoreError as failure:
                self._outages.failed(kept.name, failure)
                wait_s = backoff.wait_s(failure)
            else:
                self._outages.worked(kept.name)
                backoff.reset()
                wait_s = self._renewal_s(kept)
        self._outages.forget(kept.name)

    def _renewal_s(self, kept: RecordSet) -> float:
        return kept.renew_s * self._rng.uniform(0.9, 1.0)

    async def _tend(self, kept: RecordSet) -> None:
        """Renew, and put right what is not as it should be."""
        asked = self._clock.now()
        if kept.records.lease != NO_LEASE:
            await self._keepalive(kept)
        if kept.records.needs_write() or self._clock.now() - kept._checked >= CHECK_S:
            await self._settle(kept)
            kept._checked = asked
        kept.renewed = asked

    async def _keepalive(self, kept: RecordSet) -> None:
        try:
            await self._store.keepalive(kept.records.lease)
        except LeaseGone:
            _log.warning(
                "lease-gone: %s: the store ended our lease; its keys are put again where they are free",
                kept.name,
            )
            kept.records.lease_gone()

    async def _grant_if_needed(self, kept: RecordSet) -> None:
        if kept.records.needs_lease() and kept.ttl_s is not None:
            kept.records.lease = await self._store.grant(kept.ttl_s)

    async def _settle(self, kept: RecordSet) -> None:
        """Compare, then put, until the store has what we want. Raises Conflict after marking the set as lost."""
        records = kept.records
        for _ in range(_ROUNDS):
            if kept.taken is not None:
                raise Conflict(kept.name, kept.present)
            await self._grant_if_needed(kept)
            then = records.puts() if records.needs_write() else []
            try:
                result = await self._store.transact(records.compares(), then, records.gets())
            except LeaseGone:
                records.lease_gone()
                continue
            if result.succeeded:
                if then:
                    records.written(result.revision)
                return
            foreign = records.judge(result.found)
            if foreign is not None:
                await self._lose(kept, foreign, result.found)
        raise Unavailable(f"{kept.name}: its keys change faster than they can be read; trying again")

    async def _lose(self, kept: RecordSet, foreign: KeyValue, present: Present) -> None:
        """Another has one of our keys: leave it there, and take away what is left of ours."""
        _log.error("record-taken: %s: %s now belongs to another: %r", kept.name, foreign.key, foreign.value)
        kept.taken, kept.present = foreign, present
        kept.lost.set()
        kept._wake.set()
        if kept._tell is not None:
            kept._tell()
        await self._drop_lease(kept)

    async def _drop_lease(self, kept: RecordSet) -> None:
        """End our lease, with what hangs on it. Where that fails it runs out by itself."""
        if kept.records.lease != NO_LEASE:
            with suppress(StoreError):
                await self._store.revoke(kept.records.lease)
            kept.records.lease_gone()
