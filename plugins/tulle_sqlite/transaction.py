"""One writing transaction in the file: keys, events, leases and the state row, changed together."""

from __future__ import annotations

import sqlite3

import msgspec

from tulle.contracts.store import Event, KeyValue, LeaseId, Revision
from tulle.store import mvcc
from tulle_sqlite import schema
from tulle_sqlite.clocks import Anchor, Reading, lease_time, settle

COMPACT_EVERY = 1_000
"""Old events are deleted when so many have come together, which makes it one statement now and then."""


class State(msgspec.Struct, frozen=True):
    """The state row."""

    revision: Revision
    compacted: Revision
    """Listings from this revision on, and watches after it or later, still work."""
    anchor: Anchor


def read_state(connection: sqlite3.Connection) -> State:
    revision, compacted, boot, offset = connection.execute(schema.GET_STATE).fetchone()
    return State(revision, compacted, Anchor(boot, offset))


class Transaction:
    """What lies between BEGIN IMMEDIATE and COMMIT. Implements `mvcc.Rows`."""

    def __init__(self, connection: sqlite3.Connection, reading: Reading) -> None:
        self._db = connection
        self._before = read_state(connection)
        self._anchor = self._before.anchor
        self._reading = reading
        self._position = 0
        self.revision = self._before.revision
        self.compacted = self._before.compacted

    def prepare(self) -> None:
        """What every writer does first: put the clock right, delete what has expired."""
        settled = settle(self._anchor, self._reading)
        self._anchor = settled.anchor
        if settled.shift_s:
            self._db.execute(schema.SHIFT_LEASES, (settled.shift_s,))
        if settled.rebooted:
            self._db.execute(schema.SHORTEN_LEASES, (self.lease_time,))
        for (lease,) in self._db.execute(schema.EXPIRED_LEASES, (self.lease_time,)).fetchall():
            self.end_lease(lease)

    def finish(self, keep_revisions: int) -> None:
        """What every writer does last: forget what is too old, write the state row."""
        if self.revision - self.compacted >= keep_revisions + COMPACT_EVERY:
            self.compact(Revision(self.revision - keep_revisions))
        after = State(self.revision, self.compacted, self._anchor)
        if after != self._before:
            row = (after.revision, after.compacted, after.anchor.boot, after.anchor.offset)
            self._db.execute(schema.SET_STATE, row)

    @property
    def lease_time(self) -> float:
        return lease_time(self._anchor, self._reading)

    def get(self, key: str) -> KeyValue | None:
        row = self._db.execute(schema.GET_KEY, (key,)).fetchone()
        return None if row is None else KeyValue(*row)

    def knows_lease(self, lease: LeaseId) -> bool:
        return self._db.execute(schema.GET_LEASE, (lease,)).fetchone() is not None

    def apply(self, event: Event) -> None:
        kv, old = event.kv, event.previous
        if event.kind == "put":
            row = (kv.key, kv.value, kv.created, kv.modified, kv.version, kv.lease)
            self._db.execute(schema.PUT_KEY, row)
        else:
            self._db.execute(schema.DELETE_KEY, (kv.key,))
        # Counted through the whole transaction: unique within each revision is all that is needed.
        self._position += 1
        self._db.execute(
            schema.ADD_EVENT,
            (kv.modified, self._position, event.kind, kv.key, kv.value, kv.created, kv.version, kv.lease)
            + (
                (None,) * 5 if old is None else (old.value, old.created, old.modified, old.version, old.lease)
            ),
        )

    def add_lease(self, ttl_s: int) -> LeaseId:
        number = self._db.execute(schema.ADD_LEASE, (ttl_s, self.lease_time + ttl_s)).lastrowid
        assert number is not None  # an INSERT has just made a row
        return LeaseId(number)

    def renew(self, lease: LeaseId) -> float:
        row = self._db.execute(schema.GET_LEASE, (lease,)).fetchone()
        if row is None:
            raise mvcc.lease_gone(lease)
        ttl_s = float(row[0])
        self._db.execute(schema.RENEW_LEASE, (self.lease_time + ttl_s, lease))
        return ttl_s

    def end_lease(self, lease: LeaseId) -> None:
        """Delete a lease and, at one revision of its own, its keys."""
        self._db.execute(schema.DELETE_LEASE, (lease,))
        doomed = self._db.execute(schema.KEYS_OF_LEASE, (lease,)).fetchall()
        if doomed:
            self.revision = Revision(self.revision + 1)
            for row in doomed:
                self.apply(mvcc.delete_event(KeyValue(*row), self.revision))

    def compact(self, revision: Revision) -> None:
        self._db.execute(schema.FORGET_EVENTS, (revision,))
        self.compacted = revision
