"""The search for the longest packet, against the definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tulle.probe.mtu import longest


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(-1, 2001))
def test_the_longest_size_that_passes_is_found_in_few_tries(low: int, high: int, limit: int) -> None:
    tried: list[int] = []

    def passes(size: int) -> bool:
        tried.append(size)
        return size <= limit

    fitting = [size for size in range(low, high + 1) if size <= limit]
    assert longest(low, high, passes) == (fitting[-1] if fitting else None)
    assert len(tried) <= 13
    assert all(low <= size <= high for size in tried)
