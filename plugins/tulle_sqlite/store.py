"""The sqlite store as the contract has it: calls run on one worker thread, watches poll and are woken."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tulle.contracts.store import (
    Compare,
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
from tulle_sqlite.clocks import Reading, read_clocks
from tulle_sqlite.database import KEEP_REVISIONS, Database
from tulle_sqlite.inotify import FileWatch

PATIENCE_S = 4.0
"""A call waits so long for other writers and for the calls before it."""
_STUCK_S = PATIENCE_S + 2.0
"""A call that has no answer by then hangs in the kernel (a dying disk)."""
POLL_S = 1.0
"""Watches look so often even if nobody wakes them; the net under the wake-up."""
LOOK_AGAIN_S = [0.001, 0.004, 0.015, 0.080]
"""Pauses between looks after a wake-up, which may come before the commit can be seen: at once, then after 1, 5,
20 and 100 ms."""

P = ParamSpec("P")
T = TypeVar("T")


class SqliteStore:
    """One client of the file at `path`; see `contracts.store.Store`. Nothing is opened before the first call."""

    name = "sqlite"
    single_machine = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clocks: Callable[[], Reading] = read_clocks,
        keep_revisions: int = KEEP_REVISIONS,
    ) -> None:
        self._path = Path(os.path.abspath(path))
        self.location = str(self._path)
        self._database = Database(self._path, clocks, keep_revisions)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-store")
        self._closed = False
        self._bells: set[asyncio.Event] = set()
        self._file_watch = FileWatch(self._path, self._ring)

    async def get(self, key: str) -> KeyValue | None:
        mvcc.check_key(key)
        return await self._run(self._database.get, key)

    async def list(
        self, prefix: str, *, revision: Revision | None = None, keys_only: bool = False
    ) -> Listing:
        return await self._run(self._database.list, prefix, revision, keys_only)

    async def watch(self, prefix: str, *, after: Revision) -> AsyncGenerator[WatchBatch, None]:
        bell = asyncio.Event()
        self._subscribe(bell)
        try:
            synced, pauses = True, list[float]()
            while True:
                bell.clear()
                changes = await self._run(self._database.changes, prefix, after)
                after = changes.seen
                if changes.events or synced:
                    yield WatchBatch(changes.events, after, synced)
                    synced = False
                if not changes.more:
                    pauses = await _pause(bell, pauses)
        finally:
            self._unsubscribe(bell)

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()
    ) -> TxnResult:
        return await self._write(self._database.transact, compares, then, otherwise)

    async def grant(self, ttl_s: int) -> LeaseId:
        if ttl_s <= 0:
            raise ValueError(f"a lease of {ttl_s} s would be gone at once: ask for at least 1")
        return await self._write(self._database.grant, ttl_s)

    async def keepalive(self, lease: LeaseId) -> float:
        return await self._write(self._database.keepalive, lease)

    async def revoke(self, lease: LeaseId) -> None:
        await self._write(self._database.revoke, lease)

    async def remaining(self, leases: Collection[LeaseId]) -> Mapping[LeaseId, float]:
        left = await self._run(self._database.remaining)
        return {lease: left[lease] for lease in leases if lease in left}

    async def health(self) -> Health:
        started = time.monotonic()
        await self._run(self._database.health)
        return Health(self.location, time.monotonic() - started, f"SQLite {sqlite3.sqlite_version}")

    async def compact(self, revision: Revision) -> None:
        """Forget the history up to and including `revision`. It happens by itself; tests want it now. Raises
        ValueError for a revision that is not in the history."""
        await self._write(self._database.compact, revision)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._ring()
        self._file_watch.close()
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):  # a disk that hangs: the thread lets go when the disk does
            async with asyncio.timeout(_STUCK_S):
                await loop.run_in_executor(self._thread, self._database.close)
        self._thread.shutdown(wait=False)

    async def _write(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._run(job, *args, **kwargs)
        finally:
            self._ring()  # our own watches need not wait for inotify

    async def _run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise Unavailable(f"this client of store file {self._path} is closed: open another one")
        deadline = time.monotonic() + PATIENCE_S
        call = partial(self._database.call, deadline, job, *args, **kwargs)
        try:
            async with asyncio.timeout(_STUCK_S):
                result: T = await asyncio.get_running_loop().run_in_executor(self._thread, call)
                return result
        except TimeoutError:
            raise Unavailable(
                f"store file {self._path} gave no answer within {_STUCK_S:.0f} s: look at its disk"
            ) from None

    def _subscribe(self, bell: asyncio.Event) -> None:
        if not self._bells:
            self._file_watch.start()
        self._bells.add(bell)

    def _unsubscribe(self, bell: asyncio.Event) -> None:
        self._bells.discard(bell)
        if not self._bells:
            self._file_watch.close()

    def _ring(self) -> None:
        """Make all watches look."""
        for bell in self._bells:
            bell.set()


async def _pause(bell: asyncio.Event, pauses: list[float]) -> list[float]:
    """Wait until it is time for a watch to look again. `pauses` are those left from the last wake-up; returns
    those that are left now."""
    pause_s, rest = (pauses[0], pauses[1:]) if pauses else (POLL_S, pauses)
    with suppress(TimeoutError):
        # Not wait_for: before Python 3.12 that loses a cancellation that comes together with the bell.
        async with asyncio.timeout(pause_s):
            await bell.wait()
        return LOOK_AGAIN_S
    return rest


def open_sqlite(settings: Mapping[str, Any]) -> SqliteStore:
    """The store in the file `settings["sqlite-file"]`."""
    path = settings.get("sqlite-file")
    if not path or not isinstance(path, str) or "\0" in path:
        raise ValueError(
            f"--sqlite-file is {path!r}: give the path of a file, such as /var/lib/tulle/store.sqlite"
        )
    return SqliteStore(path)
