"""Longest-prefix match: from an address to the value of the most specific prefix that holds it.

One dict for each prefix length in use, asked from the longest to the shortest. A cluster uses one or two
lengths, so a look-up is one or two dict look-ups however many prefixes there are; the worst case is one for
each length in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from tulle.net.prefix import Prefix

T = TypeVar("T")

_Level = tuple[int, dict[int, T]]
"""(bits to shift an address right, values by what is left of it)."""

_MISSING = object()


class PrefixTable(Generic[T]):
    """Prefixes of both families with a value each. Not for several threads at once."""

    def __init__(self) -> None:
        self._values: dict[Prefix, T] = {}
        # By bytes of an address: 4 or 16.
        self._levels: dict[int, list[_Level[T]]] = {4: [], 16: []}

    def __len__(self) -> int:
        return len(self._values)

    def insert(self, prefix: Prefix, value: T) -> None:
        """Add the prefix, or give it another value."""
        self._values[prefix] = value
        shift = prefix.max_prefixlen - prefix.prefixlen
        self._level(prefix, shift)[int(prefix.network_address) >> shift] = value

    def remove(self, prefix: Prefix) -> T | None:
        """Take the prefix out and return its value; None where it was not there."""
        if prefix not in self._values:
            return None
        shift = prefix.max_prefixlen - prefix.prefixlen
        entries = self._level(prefix, shift)
        del entries[int(prefix.network_address) >> shift]
        if not entries:
            levels = self._levels[prefix.max_prefixlen // 8]
            levels[:] = [level for level in levels if level[0] != shift]
        return self._values.pop(prefix)

    def get(self, prefix: Prefix) -> T | None:
        """The value of exactly this prefix."""
        return self._values.get(prefix)

    def items(self) -> Iterator[tuple[Prefix, T]]:
        """Prefixes and values, in the order in which they came."""
        return iter(self._values.items())

    def lookup(self, address: bytes) -> T | None:
        """The value of the longest prefix that holds the address (4 or 16 bytes, network order), or None.
        Bytes of another length are no address and find nothing."""
        levels = self._levels.get(len(address))
        if levels:
            number = int.from_bytes(address)
            for shift, entries in levels:
                value = entries.get(number >> shift, _MISSING)
                if value is not _MISSING:
                    return value  # type: ignore[return-value]  # a T: the default was just excluded
        return None

    def _level(self, prefix: Prefix, shift: int) -> dict[int, T]:
        levels = self._levels[prefix.max_prefixlen // 8]
        for known, entries in levels:
            if known == shift:
                return entries
        fresh: dict[int, T] = {}
        levels.append((shift, fresh))
        levels.sort(key=lambda level: level[0])
        return fresh
