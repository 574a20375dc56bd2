"""What repeats is logged a few times in a window; the rest is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tulle.node.repeats import Repeats

KEY = ("peer-refused", "tulle.node")
OTHER = ("peer-refused", "tulle.lease")


def test_so_many_pass_in_a_window_and_the_rest_is_counted() -> None:
    repeats = Repeats(3, 60.0)
    assert [repeats.admit(KEY, 1.0) for _ in range(5)] == [True, True, True, False, False]
    assert repeats.admit(OTHER, 1.0)
    assert repeats.ended(60.9) == []
    assert repeats.ended(61.0) == [(KEY, 2)]


def test_after_a_window_it_begins_anew() -> None:
    repeats = Repeats(1, 60.0)
    assert [repeats.admit(KEY, 0.0), repeats.admit(KEY, 59.0)] == [True, False]
    assert repeats.ended(60.0) == [(KEY, 1)]
    assert repeats.ended(60.0) == []
    assert [repeats.admit(KEY, 60.0), repeats.admit(KEY, 60.0)] == [True, False]


def test_what_was_never_held_back_is_not_told() -> None:
    repeats = Repeats(1, 60.0)
    repeats.admit(KEY, 0.0)
    assert repeats.ended(1000.0) == []


def test_windows_end_each_at_its_own_time() -> None:
    repeats = Repeats(0, 60.0)
    repeats.admit(KEY, 0.0)
    repeats.admit(OTHER, 30.0)
    repeats.admit(KEY, 40.0)
    assert repeats.ended(60.0) == [(KEY, 2)]
    assert repeats.ended(90.0) == [(OTHER, 1)]


def test_at_the_end_all_is_told_once() -> None:
    repeats = Repeats(0, 60.0)
    repeats.admit(KEY, 0.0)
    assert repeats.all() == [(KEY, 1)]
    assert repeats.all() == []


@given(st.lists(st.tuples(st.sampled_from([KEY, OTHER]), st.floats(0, 100)), max_size=60), st.integers(0, 5))
def test_every_time_is_either_said_or_counted(steps: list[tuple[tuple[str, str], float]], most: int) -> None:
    repeats = Repeats(most, 60.0)
    now = 0.0
    said = counted = 0
    for key, pause in steps:
        now += pause
        counted += sum(held for _, held in repeats.ended(now))
        said += repeats.admit(key, now)
    counted += sum(held for _, held in repeats.all())
    assert said + counted == len(steps)
