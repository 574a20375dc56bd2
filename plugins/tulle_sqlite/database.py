"""The store's calls, synchronous, on one connection. Used by one thread at a time; store.py gives it that thread."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec

from tulle.contracts.store import (
    Compacted,
    Compare,
    Event,
    KeyValue,
    LeaseId,
    Listing,
    Op,
    Revision,
    TxnResult,
    Unavailable,
)
from tulle.store import mvcc
from tulle_sqlite import schema
from tulle_sqlite.clocks import Reading, lease_time
from tulle_sqlite.opening import (
    discard_log,
    explain,
    identity,
    is_busy,
    log_path,
    newer,
    open_file,
    removed,
)
from tulle_sqlite.transaction import State, Transaction, read_state

KEEP_REVISIONS = 10_000
"""So far back a watch can resume and a listing can look."""
EVENTS_IN_BATCH = 1_000
"""A batch ends at the first revision boundary behind so many events."""

P = ParamSpec("P")
T = TypeVar("T")


class Changes(msgspec.Struct, frozen=True):
    """Events under a prefix, whole revisions, in order."""

    events: Sequence[Event]
    seen: Revision
    """Everything up to here has been looked at."""
    more: bool
    """There may be further events already."""


class Database:
    """See the module. It opens the file when it is first needed, and again after an error."""

    def __init__(self, path: Path, clocks: Callable[[], Reading], keep_revisions: int) -> None:
        self._path = path
        self._clocks = clocks
        self._keep_revisions = keep_revisions
        self._connection: sqlite3.Connection | None = None
        self._identity = self._log_identity = (0, 0)
        self._written = False

    def call(self, deadline: float, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the methods below, with the file open, a limit on waiting for locks (`deadline`, monotonic
        seconds) and errors in the contract's terms."""
        patience_s = deadline - time.monotonic()
        if patience_s <= 0:
            raise Unavailable(f"store file {self._path} is too slow, nothing was done: try again later")
        try:
            self._open(deadline)
            self._db.execute(f"PRAGMA busy_timeout = {int(patience_s * 1000)}")
            return job(*args, **kwargs)
        except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.ProgrammingError):
                raise
            if isinstance(error, OSError) or not is_busy(error):
                self.drop()
            raise explain(error, self._path) from error

    def drop(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Let go of the file; what this client has written is on the disk then."""
        if self._connection is not None and self._written:
            with suppress(sqlite3.Error):  # it is in the log in any case; the next one who closes tries again
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self.drop()

    def health(self) -> None:
        with self._reading():
            pass

    def get(self, key: str) -> KeyValue | None:
        with self._reading():
            row = self._db.execute(schema.GET_KEY, (key,)).fetchone()
        return None if row is None else KeyValue(*row)

    def list(self, prefix: str, revision: Revision | None, keys_only: bool) -> Listing:
        select = schema.LIST_WITHOUT_VALUES if keys_only else schema.LIST_KEYS
        with self._reading() as state:
            at = state.revision if revision is None else revision
            self._check_history(state, at)
            items = [KeyValue(*row) for row in self._select(select, prefix, schema.KEY_ORDER)]
            if at != state.revision:
                rows = self._select(schema.EVENTS, prefix, schema.NEWEST_FIRST, after=at)
                items = mvcc.undo(items, map(_event, rows))
        if keys_only:
            items = [mvcc.without_value(kv) if kv.value else kv for kv in items]
        return Listing(items, at)

    def changes(self, prefix: str, after: Revision) -> Changes:
        events: list[Event] = []
        with self._reading() as state:
            self._check_history(state, after)
            if after == state.revision:
                return Changes(events, after, more=False)
            for row in self._select(schema.EVENTS, prefix, schema.OLDEST_FIRST, after=after):
                event = _event(row)
                if len(events) >= EVENTS_IN_BATCH and event.kv.modified != events[-1].kv.modified:
                    return Changes(events, events[-1].kv.modified, more=True)
                events.append(event)
            return Changes(events, state.revision, more=False)

    def transact(self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]) -> TxnResult:
        with self._writing() as txn:
            result = mvcc.execute(txn, txn.revision, compares, then, otherwise)
            txn.revision = result.revision
        return result

    def grant(self, ttl_s: int) -> LeaseId:
        with self._writing() as txn:
            return txn.add_lease(ttl_s)

    def keepalive(self, lease: LeaseId) -> float:
        with self._writing() as txn:
            return txn.renew(lease)

    def revoke(self, lease: LeaseId) -> None:
        with self._writing() as txn:
            txn.end_lease(lease)

    def remaining(self) -> dict[LeaseId, float]:
        with self._reading() as state:
            now = lease_time(state.anchor, self._clocks())
            return {lease: expires - now for lease, expires in self._db.execute(schema.LEASE_DEADLINES)}

    def compact(self, revision: Revision) -> None:
        with self._writing() as txn:
            if not txn.compacted <= revision <= txn.revision:
                raise ValueError(f"revision {revision} is not within {txn.compacted}..{txn.revision}")
            txn.compact(revision)

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None  # `call` has opened it
        return self._connection

    def _open(self, deadline: float) -> None:
        if self._connection is not None:
            if identity(self._path) == self._identity:
                return
            discard_log(self._path, self._log_identity)
            self.drop()
            raise removed(self._path)
        self._connection = open_file(self._path, deadline, self._clocks())
        self._identity, self._log_identity = identity(self._path), identity(log_path(self._path))

    @contextmanager
    def _reading(self) -> Iterator[State]:
        """One snapshot of the file, without what has expired."""
        try:
            state = self._begin_reading()
            if self._something_to_expire(state):
                self._db.execute("ROLLBACK")
                # Where that cannot be written (a full disk, a long writer) reading still helps the caller; the keys
                # then go a little later, as they may in any store.
                with suppress(sqlite3.OperationalError), self._writing():
                    pass
                state = self._begin_reading()
            yield state
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _begin_reading(self) -> State:
        self._db.execute("BEGIN")
        self._check_version()
        return read_state(self._db)

    def _something_to_expire(self, state: State) -> bool:
        (expires,) = self._db.execute(schema.NEXT_EXPIRY).fetchone()
        return expires is not None and expires <= lease_time(state.anchor, self._clocks())

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        """The right to write, which one client at a time has; committed if the body ends well."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._check_version()
            txn = Transaction(self._db, self._clocks())
            txn.prepare()
            yield txn
            txn.finish(self._keep_revisions)
            self._db.execute("COMMIT")
            self._written = True
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _check_version(self) -> None:
        """A newer tulle may have changed the file's format while we have it open. Raises Denied."""
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != schema.VERSION:
            raise newer(self._path, version)

    def _select(self, select: str, prefix: str, order: str, **where: object) -> sqlite3.Cursor:
        where |= {"start": prefix, "end": mvcc.end_of_prefix(prefix)}
        limit = "" if where["end"] is None else schema.BEFORE_END
        return self._db.execute(select + limit + order, where)

    def _check_history(self, state: State, revision: Revision) -> None:
        if not state.compacted <= revision <= state.revision:
            raise Compacted(
                f"store file {self._path} knows revisions {state.compacted}..{state.revision}, not {revision}: "
                "list again"
            )


def _event(row: tuple[Any, ...]) -> Event:
    kind, key, value, created, revision, version, lease, old_value, *old = row
    previous = None if old_value is None else KeyValue(key, old_value, *old)
    return Event(kind, KeyValue(key, value, created, revision, version, lease), previous)
