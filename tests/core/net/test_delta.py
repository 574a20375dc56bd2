"""The short way finds what sets find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.net.delta import delta

UNIQUE = st.lists(st.integers(0, 12), unique=True).map(tuple)


@given(UNIQUE, UNIQUE)
def test_it_finds_what_sets_find_in_the_order_of_each(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    gone, come = delta(old, new)
    assert gone == [one for one in old if one not in new]
    assert come == [one for one in new if one not in old]


@pytest.mark.parametrize("at", [0, 1, 2500, 4998, 4999])
def test_one_in_thousands_is_found_wherever_it_stands(at: int) -> None:
    old = tuple(range(5000))
    without = old[:at] + old[at + 1 :]
    changed = (*old[:at], -1, *old[at + 1 :])
    assert delta(old, without) == ([at], [])
    assert delta(without, old) == ([], [at])
    assert delta(old, changed) == ([at], [-1])


def test_the_ends_that_are_shared_are_not_hashed() -> None:
    class Unhashed:
        def __hash__(self) -> int:
            raise AssertionError("hashed")

    same = tuple(Unhashed() for _ in range(100))
    assert delta((*same, "old", *same), (*same, "new", *same)) == (["old"], ["new"])
    assert delta(same, same) == ([], [])
