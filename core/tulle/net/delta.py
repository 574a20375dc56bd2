"""What differs between two long tuples of which most is the same: found without looking at each item. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def delta(old: tuple[T, ...], new: tuple[T, ...]) -> tuple[list[T], list[T]]:
    """What `new` has no more, and what it has more; each in its own order. The order itself does not count. An
    item must not stand in one of them twice.

    Slices of the same objects compare at some ten nanoseconds an item, so the ends that both share come first; what
    lies in between goes through sets, and should have cheap hashes."""
    start = _shared(old, new)
    end = _shared(old[start:][::-1], new[start:][::-1])
    left, right = old[start : len(old) - end], new[start : len(new) - end]
    if not left or not right:
        return list(left), list(right)
    had, has = set(left), set(right)
    return [one for one in left if one not in has], [one for one in right if one not in had]


def _shared(old: tuple[T, ...], new: tuple[T, ...]) -> int:
    """How many items both begin with."""
    low, high = 0, min(len(old), len(new))
    if old[:high] == new[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle
    return low
