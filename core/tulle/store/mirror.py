"""A mirror: a copy of all keys under a prefix, kept up to date by one listing and a watch.

The copy survives disconnection, compaction and restarts of the store. The watch resumes exactly behind the last
batch; where the history is gone, the whole is listed again and compared, so readers hear of what vanished or
changed meanwhile. Readers get states of keys, not events.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec

from tulle.contracts.store import (
    Compacted,
    KeyValue,
    Listing,
    Revision,
    Store,
    StoreError,
    Unavailable,
    WatchBatch,
)
from tulle.store.clock import Clock
from tulle.store.items import Changes, Item, Mailbox, Undecodable
from tulle.store.retry import LONGEST_WAIT_S, Backoff, OutageLog, RareLog

T = TypeVar("T")

Decode = Callable[[KeyValue], T | Undecodable]
"""What a value means. Must not raise, whatever the bytes."""

_log = logging.getLogger("tulle.store.mirror")


class MirrorStatus(msgspec.Struct, frozen=True):
    """For `tulle status`. Times are the clock's."""

    prefix: str
    state: Literal["starting", "connected", "away"]
    since: float
    """When that state began."""
    revision: Revision | None
    items: int
    problems: int
    """Keys whose value makes no sense."""
    relists: int
    """Listings after the first one (the history was gone)."""
    reconnects: int
    last_error: str


class Subscription(Generic[T]):
    """One reader of a mirror. Bounded: a key that changes many times is told once."""

    def __init__(self, mirror: Mirror[T], bell: asyncio.Event) -> None:
        self._mirror = mirror
        self._mailbox: Mailbox[T] = Mailbox()
        self._bell = bell
        self._first = True
        for key, item in mirror.items.items():
            self._mailbox.upsert(key, item)

    async def next(self) -> Changes[T]:
        """Wait for changes. The first call gives everything that is there, as soon as the mirror has listed it
        (also where there is nothing)."""
        while (changes := self.take()) is None:
            await self._bell.wait()
        return changes

    def take(self) -> Changes[T] | None:
        """Changes, if there are any; for readers of several mirrors who wait on a bell of their own."""
        self._bell.clear()
        if not self._mirror.synced.is_set() or not (self._mailbox or self._first):
            return None
        self._first = False
        return self._mailbox.take(self._mirror.connected)

    def close(self) -> None:
        self._mirror._readers.discard(self)

    def __enter__(self) -> Subscription[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ring(self) -> None:
        self._bell.set()


class Mirror(Generic[T]):
    """See the module. `run` must run as a task. `items` and `problems` may be read at any time and not written.

    With `only`, keys under the prefix that it is false for are left out (a prefix "…/n1" also matches "…/n10").
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        decode: Decode[T],
        *,
        clock: Clock,
        rng: random.Random,
        outages: OutageLog | None = None,
        only: Callable[[str], bool] | None = None,
    ) -> None:
        self.items: dict[str, Item[T]] = {}
        self.problems: dict[str, str] = {}
        """Why a key's value makes no sense, by key."""
        self.synced = asyncio.Event()
        """Set for good when the first listing is in."""
        self._store = store
        self._prefix = prefix
        self._decode = decode
        self._clock = clock
        self._only = only
        self._backoff = Backoff(rng)
        self._outages = outages or OutageLog(_log, f"{store.name} at {store.location}", clock)
        self._rare = RareLog(clock)
        self._readers: set[Subscription[T]] = set()
        self._revision: Revision | None = None
        self._state: Literal["starting", "connected", "away"] = "starting"
        self._since = clock.now()
        self._listings = 0
        self._connections = 0
        self._last_error = ""

    @property
    def connected(self) -> bool:
        return self._state == "connected"

    def subscribe(self, bell: asyncio.Event | None = None) -> Subscription[T]:
        """A new reader. With `bell`, that event is set when there is something to take (readers of several
        mirrors share one)."""
        reader = Subscription(self, bell or asyncio.Event())
        self._readers.add(reader)
        return reader

    def status(self) -> MirrorStatus:
        return MirrorStatus(
            prefix=self._prefix,
            state=self._state,
            since=self._since,
            revision=self._revision,
            items=len(self.items),
            problems=len(self.problems),
            relists=max(self._listings - 1, 0),
            reconnects=max(self._connections - 1, 0),
            last_error=self._last_error,
        )

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            try:
                await self._follow()
                error: StoreError = Unavailable(f"the watch of {self._prefix} ended without a reason")
            except Compacted as compacted:
                _log.info("mirror-compacted: %s: %s; listing again", self._prefix, compacted)
                self._revision = None
                error = compacted
            except StoreError as failure:
                self._outages.failed(self._prefix, failure)
                error = failure
            # A watch that ends as soon as it stands is no sign of better times: trying at once, again and again, would
            # keep this machine and the store busy.
            if self.connected and self._clock.now() - self._since >= LONGEST_WAIT_S:
                self._backoff.reset()
            self._set_state("away")
            self._last_error = str(error)
            await self._clock.sleep(self._backoff.wait_s(error))

    async def _follow(self) -> None:
        """List where that is needed, then watch until it breaks."""
        if self._revision is None:
            self._apply_listing(await self._store.list(self._prefix))
        revision = cast(Revision, self._revision)
        # The contract says AsyncIterator; it also says that this is an async generator.
        watch: Any = self._store.watch(self._prefix, after=revision)
        async with aclosing(watch):
            async for batch in watch:
                self._apply_batch(batch)

    def _apply_listing(self, listing: Listing) -> None:
        present: dict[str, KeyValue] = {kv.key: kv for kv in listing.items}
        for key in [key for key in self.items if key not in present]:
            self._delete(key)
        for key, kv in present.items():
            known = self.items.get(key)
            if known is None or known.kv != kv:
                self._upsert(kv)
        self._listings += 1
        self._revision = listing.revision
        self.synced.set()
        self._ring()

    def _apply_batch(self, batch: WatchBatch) -> None:
        if batch.synced:
            self._connections += 1
            self._set_state("connected")
            self._outages.worked(self._prefix)
        for event in batch.events:
            if event.kind == "put":
                self._upsert(event.kv)
            else:
                self._delete(event.kv.key)
        self._revision = batch.revision
        if batch.events:
            self._ring()

    def _upsert(self, kv: KeyValue) -> None:
        if self._only is not None and not self._only(kv.key):
            return
        value = self._decode(kv)
        if isinstance(value, Undecodable):
            self.problems[kv.key] = value.reason
            self._rare.warn(
                _log, f"bad-record: {kv.key}: {value.reason}; its value is ignored until it is put right"
            )
            item: Item[T] = Item(kv, None)
        else:
            self.problems.pop(kv.key, None)
            item = Item(kv, value)
        self.items[kv.key] = item
        for reader in self._readers:
            reader._mailbox.upsert(kv.key, item)

    def _delete(self, key: str) -> None:
        item = self.items.pop(key, None)
        self.problems.pop(key, None)
        if item is not None:
            for reader in self._readers:
                reader._mailbox.delete(key, item)

    def _ring(self) -> None:
        for reader in self._readers:
            reader._ring()

    def _set_state(self, state: Literal["connected", "away"]) -> None:
        if state != self._state:
            self._state, self._since = state, self._clock.now()


def values(items: Mapping[str, Item[T]]) -> dict[str, T]:
    """Those that make sense, by key."""
    return {key: item.value for key, item in items.items() if item.value is not None}
