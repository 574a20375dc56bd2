"""The store: a small, watchable, transactional map from text keys to bytes, shaped after etcd v3.

Everything tulle knows of other nodes comes through this. `tulle.store.Mirror` (a copy kept up to date) and
`tulle.store.Publisher` (what we own, kept in the store) stand on it; most code wants one of those two.

Time-outs: every call ends within a few seconds, by an answer or by `Unavailable`. A store retries nothing that
may have been executed: after `Unavailable` the outcome of a write is unknown and the caller reads back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Literal, NewType, Protocol

import msgspec

Revision = NewType("Revision", int)
"""The store's history counter. Opaque: keep it, hand it back, compare for equality; do no arithmetic on it."""

LeaseId = NewType("LeaseId", int)

NO_LEASE = LeaseId(0)
"""The lease of a key that never expires."""


class StoreError(Exception):
    """Base of what a store raises. The text says what happened, to what, and what to do next."""


class Unavailable(StoreError):
    """The store cannot be reached, or did not answer in time. Try again later; a write may have happened."""


class Denied(StoreError):
    """The store refuses these credentials or this key. Trying again without a change is useless."""


class Compacted(StoreError):
    """The history from this revision on is gone: list again, and watch from the listing's revision."""


class LeaseGone(StoreError):
    """The store no longer knows this lease: it has expired or was revoked, and its keys are deleted."""


class KeyValue(msgspec.Struct, frozen=True):
    """One key as it stood at some revision."""

    key: str
    value: bytes
    created: Revision
    """Revision at which this key last came into being."""
    modified: Revision
    """Revision of its last change."""
    version: int
    """1 at creation, +1 at each change."""
    lease: LeaseId = NO_LEASE


class Listing(msgspec.Struct, frozen=True):
    """All keys under a prefix, as they stood together at `revision`, in key order."""

    items: Sequence[KeyValue]
    revision: Revision


class Event(msgspec.Struct, frozen=True):
    """One change of one key."""

    kind: Literal["put", "delete"]
    kv: KeyValue
    """For "delete": the key, an empty value, and `modified` = the revision of the deletion."""
    previous: KeyValue | None
    """The key as it stood before, None where it did not exist (or the store has compacted it away)."""


class WatchBatch(msgspec.Struct, frozen=True):
    """Changes in order. All events of one revision lie in one batch, so resuming after it loses nothing."""

    events: Sequence[Event]
    revision: Revision
    """Hand this to `watch(after=...)` to go on exactly behind this batch."""
    synced: bool = False
    """The store says that the watch stands: changes arrive from here on as they happen. The first batch of
    each watch carries it, often without events."""


class Compare(msgspec.Struct, frozen=True):
    """A condition of a transaction. An absent key has version, modified, created and lease 0, and no value:
    comparing that is false, whatever the operator."""

    key: str
    field: Literal["version", "modified", "created", "value", "lease"]
    value: int | bytes
    op: Literal["==", "!=", "<", ">"] = "=="


def absent(key: str) -> Compare:
    """The condition that a key does not exist."""
    return Compare(key, "version", 0)


def unchanged(key: str, modified: Revision) -> Compare:
    """The condition that a key is as it was at its revision `modified` (0: absent)."""
    return Compare(key, "modified", modified)


class Put(msgspec.Struct, frozen=True):
    """Write a key. It lives as long as `lease`, or for ever with NO_LEASE (a put without a lease takes an
    earlier one off)."""

    key: str
    value: bytes
    lease: LeaseId = NO_LEASE


class Delete(msgspec.Struct, frozen=True):
    """Delete a key; nothing happens where it does not exist."""

    key: str


class Get(msgspec.Struct, frozen=True):
    """Read a key inside a transaction."""

    key: str


Op = Put | Delete | Get


class TxnResult(msgspec.Struct, frozen=True):
    """What a transaction did."""

    succeeded: bool
    """True: the compares held and `then` was executed; False: `otherwise` was."""
    revision: Revision
    found: Mapping[str, KeyValue | None]
    """What the executed branch's `Get`s saw, by key."""


class Health(msgspec.Struct, frozen=True):
    """An answer from a store that works."""

    endpoint: str
    latency_s: float
    version: str


class Store(Protocol):
    """See the module. Implementations are proven by `tulle.testing.store_contract.StoreContract`."""

    name: str
    """The plugin's word for itself: "etcd"."""
    location: str
    """Where it is, for people: "http://10.0.0.1:2379,http://10.0.0.2:2379" or a file's path. No secrets."""
    single_machine: bool
    """True where nodes on other machines cannot share it."""

    async def get(self, key: str) -> KeyValue | None:
        """The key now (linearizable), or None."""
        ...

    async def list(
        self, prefix: str, *, revision: Revision | None = None, keys_only: bool = False
    ) -> Listing:
        """All keys that start with `prefix`, at one revision (default: now). Large answers are fetched in
        pages, all of the same revision. With `keys_only` values are empty. Raises Compacted."""
        ...

    def watch(self, prefix: str, *, after: Revision) -> AsyncGenerator[WatchBatch, None]:
        """Every change under `prefix` after that revision, each exactly once and in order.

        An async generator: it ends by `Unavailable` when the connection is lost or the peer is frozen
        (noticed in under 15 s), by `Compacted` when the history is gone, by `Denied`; then ask again with
        the last batch's revision. Closing the generator ends the watch at the store."""
        ...

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()
    ) -> TxnResult:
        """Execute `then` if all compares hold, else `otherwise`, atomically. A key may be written once in a
        branch (else ValueError or StoreError). A Put with an unknown lease raises LeaseGone and changes nothing."""
        ...

    async def grant(self, ttl_s: int) -> LeaseId:
        """A new lease that expires `ttl_s` seconds after its last keepalive, and takes its keys with it."""
        ...

    async def keepalive(self, lease: LeaseId) -> float:
        """Renew to the full TTL, which is returned in seconds. Raises LeaseGone."""
        ...

    async def revoke(self, lease: LeaseId) -> None:
        """End a lease and delete its keys. Nothing happens where it is gone already."""
        ...

    async def remaining(self, leases: Collection[LeaseId]) -> Mapping[LeaseId, float]:
        """Seconds left of each lease; those that are gone are left out."""
        ...

    async def health(self) -> Health:
        """One cheap round trip. Raises Unavailable or Denied."""
        ...

    async def close(self) -> None:
        """Let go of connections and files. Leases stay and run out by themselves."""
        ...
