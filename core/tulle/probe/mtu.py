"""The longest packet that passes: binary search. Pure, the probe itself is an argument."""

from __future__ import annotations

from collections.abc import Callable


def longest(low: int, high: int, passes: Callable[[int], bool]) -> int | None:
    """The largest size from `low` to `high` (bytes, both included) that passes, where every smaller one does too.
    The top is tried first, as it is the usual answer. None where not even `low` passes."""
    if high < low:
        return None
    if passes(high):
        return high
    if high == low or not passes(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            low = middle
        else:
            high = middle
    return low
