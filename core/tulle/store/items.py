"""What a mirror holds and hands out. Pure.

A `Mailbox` keeps for one reader what has changed since it last looked, by key, so a slow reader costs memory for
each key once and never for each event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from tulle.contracts.store import KeyValue

T = TypeVar("T")


class Undecodable(msgspec.Struct, frozen=True):
    """What a decoder returns for a value that makes no sense; the reason is for people."""

    reason: str


class Item(msgspec.Struct, Generic[T], frozen=True):
    """A key that is there, and what its value means: None where it makes no sense."""

    kv: KeyValue
    value: T | None


class Changes(msgspec.Struct, Generic[T], frozen=True):
    """What is different from what the reader was told last."""

    synced: bool
    """The mirror's watch stands: together with what was told before, this is the store as it is now. False: the
    store is away and this is what was known."""
    upserted: Mapping[str, Item[T]]
    deleted: Mapping[str, Item[T]]
    """By key, with the item that the mirror had last."""


class Mailbox(Generic[T]):
    """Changes that one reader has not taken yet."""

    def __init__(self) -> None:
        self._upserted: dict[str, Item[T]] = {}
        self._deleted: dict[str, Item[T]] = {}
        self._told: set[str] = set()  # keys that the reader knows of, and need to hear the end of

    def upsert(self, key: str, item: Item[T]) -> None:
        self._upserted[key] = item
        self._deleted.pop(key, None)

    def delete(self, key: str, item: Item[T]) -> None:
        self._upserted.pop(key, None)
        if key in self._told:
            self._deleted[key] = item

    def take(self, synced: bool) -> Changes[T]:
        """Hand everything out and be empty."""
        changes = Changes(synced, self._upserted, self._deleted)
        self._told.update(self._upserted)
        self._told.difference_update(self._deleted)
        self._upserted, self._deleted = {}, {}
        return changes

    def __bool__(self) -> bool:
        return bool(self._upserted or self._deleted)
