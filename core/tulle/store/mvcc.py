"""What a transaction means: compares, branches, versions and events, after etcd v3. Pure, and shared by the
embedded stores (memory, sqlite).

The history that both keep is a list of events, each with the key as it stood before. That is enough for
everything: a watch hands the events out, and a listing of an old revision is today's keys with the younger
events undone. Compaction is then nothing but forgetting the oldest events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from tulle.contracts.store import (
    NO_LEASE,
    Compare,
    Delete,
    Event,
    Get,
    KeyValue,
    LeaseGone,
    LeaseId,
    Op,
    Put,
    Revision,
    TxnResult,
)

NOTHING = Revision(0)
"""The revision of what has never been."""

_TOP_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


class Rows(Protocol):
    """The keys as they stand, seen and changed by one transaction that nobody disturbs."""

    def get(self, key: str) -> KeyValue | None: ...

    def knows_lease(self, lease: LeaseId) -> bool: ...

    def apply(self, event: Event) -> None:
        """Make the change, so that the next `get` sees it, and remember it as history."""
        ...


def execute(
    rows: Rows, now_at: Revision, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]
) -> TxnResult:
    """Run one transaction on a store at revision `now_at`. The revision of the result is one more if anything
    changed. Raises LeaseGone before it changes anything, and ValueError where the caller asks for nonsense.
    """
    for branch in (then, otherwise):
        check_branch(branch)
    succeeded = all(holds(compare, rows.get(compare.key)) for compare in compares)
    branch = then if succeeded else otherwise
    for op in branch:
        if isinstance(op, Put) and op.lease != NO_LEASE and not rows.knows_lease(op.lease):
            raise lease_gone(op.lease)
    next_revision = Revision(now_at + 1)
    revision, found = now_at, {}
    for op in branch:
        before = rows.get(op.key)
        if isinstance(op, Get):
            found[op.key] = before
        elif isinstance(op, Put):
            rows.apply(put_event(op, before, next_revision))
            revision = next_revision
        elif before is not None:
            rows.apply(delete_event(before, next_revision))
            revision = next_revision
    return TxnResult(succeeded, revision, found)


def check_branch(ops: Sequence[Op]) -> None:
    """Raises ValueError for an empty key, one that is not UTF-8, and for a key that is written twice."""
    written = set()
    for op in ops:
        check_key(op.key)
        if isinstance(op, Put | Delete):
            if op.key in written:
                raise ValueError(f"key {op.key!r} is written twice in one branch: write it once")
            written.add(op.key)


def check_key(key: str) -> None:
    if not key:
        raise ValueError("the key is empty: name one")
    key.encode()  # UnicodeEncodeError is a ValueError that names the character


def holds(compare: Compare, kv: KeyValue | None) -> bool:
    """Whether a condition is true. The value of an absent key equals, differs from and orders with nothing,
    as in etcd; its numbers are 0."""
    have: int | bytes
    if compare.field == "value":
        if kv is None:
            return False
        have = kv.value
    else:
        have = getattr(kv, compare.field) if kv is not None else 0
    want = compare.value
    if isinstance(have, bytes) and isinstance(want, bytes):
        return _ordered(have < want, have > want, compare)
    if isinstance(have, int) and isinstance(want, int):
        return _ordered(have < want, have > want, compare)
    raise ValueError(f"{compare.field} of {compare.key!r} is compared with a {type(want).__name__}")


def _ordered(less: bool, greater: bool, compare: Compare) -> bool:
    match compare.op:
        case "==":
            return not less and not greater
        case "!=":
            return less or greater
        case "<":
            return less
        case ">":
            return greater
    raise ValueError(f"unknown comparison {compare.op!r}: one of == != < >")


def put_event(op: Put, before: KeyValue | None, revision: Revision) -> Event:
    created, version = (before.created, before.version + 1) if before is not None else (revision, 1)
    return Event("put", KeyValue(op.key, op.value, created, revision, version, op.lease), before)


def delete_event(before: KeyValue, revision: Revision) -> Event:
    return Event("delete", KeyValue(before.key, b"", NOTHING, revision, 0), before)


def undo(items: Iterable[KeyValue], newest_first: Iterable[Event]) -> list[KeyValue]:
    """The keys as they stood before these events, in key order."""
    state = {kv.key: kv for kv in items}
    for event in newest_first:
        if event.previous is None:
            state.pop(event.kv.key, None)
        else:
            state[event.kv.key] = event.previous
    return [state[key] for key in sorted(state)]


def without_value(kv: KeyValue) -> KeyValue:
    return KeyValue(kv.key, b"", kv.created, kv.modified, kv.version, kv.lease)


def end_of_prefix(prefix: str) -> str | None:
    """The first key behind all keys with this prefix, in code point order (which is UTF-8's byte order); None
    where there is no such key."""
    while prefix:
        following = ord(prefix[-1]) + 1
        if following in _SURROGATES:
            following = _SURROGATES.stop
        if following <= _TOP_CODE_POINT:
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


def lease_gone(lease: LeaseId) -> LeaseGone:
    return LeaseGone(f"lease {lease} has expired or was revoked, with its keys: grant a new one")
