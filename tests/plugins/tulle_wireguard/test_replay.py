"""The window against a set that remembers everything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle_wireguard.constants import REJECT_AFTER_MESSAGES, REPLAY_WINDOW
from tulle_wireguard.replay import ReplayWindow

AHEAD = st.sampled_from([1, 2, 63, 64, 65, 127, 128, 8063, 8064, 8127, 8128, 8129, 8191, 8192, 8193, 20000])


def test_the_window_is_8128_wide() -> None:
    assert REPLAY_WINDOW == 8128
    window = ReplayWindow()
    assert window.accept(8128)
    assert window.accept(0)
    assert window.accept(8129)
    assert not window.accept(0)
    assert window.accept(1)


@st.composite
def journeys(draw: st.DrawFn) -> list[int]:
    """Counters that jump ahead and look back over the window's edges, and again."""
    counters, highest = [], 0
    for _ in range(draw(st.integers(1, 60))):
        if draw(st.booleans()):
            highest += draw(AHEAD)
            counters.append(highest)
        else:
            back = draw(st.one_of(AHEAD, st.integers(0, 9000), st.just(0)))
            counters.append(max(0, highest - back))
    return counters


@given(journeys())
@settings(max_examples=300)
def test_each_counter_is_taken_once_and_only_inside_the_window(counters: list[int]) -> None:
    window, seen, highest = ReplayWindow(), set(), 0
    for counter in counters:
        expected = counter not in seen and counter >= highest - REPLAY_WINDOW
        assert window.accept(counter) == expected
        seen.add(counter)
        highest = max(highest, counter)
        assert window.highest == highest


@pytest.mark.parametrize("last", [8127, 8128, 8129, 8191, 8192, 8193, 100_000])
def test_all_that_fit_into_the_window_are_taken_backwards_too(last: int) -> None:
    window = ReplayWindow()
    assert window.accept(last)
    oldest = max(0, last - REPLAY_WINDOW)
    assert all(window.accept(counter) for counter in range(last - 1, oldest - 1, -1))
    assert not any(window.accept(counter) for counter in range(oldest, last + 1))
    assert not any(window.accept(counter) for counter in range(max(0, oldest - 100), oldest))


def test_the_last_counter_of_a_session_is_taken_and_none_after_it() -> None:
    window = ReplayWindow()
    assert window.accept(REJECT_AFTER_MESSAGES - 1)
    assert not window.accept(REJECT_AFTER_MESSAGES)
    assert not window.accept(2**64 - 1)
    assert window.accept(REJECT_AFTER_MESSAGES - 2)
    assert window.accept(REJECT_AFTER_MESSAGES - 1 - REPLAY_WINDOW)
    assert not window.accept(REJECT_AFTER_MESSAGES - 2 - REPLAY_WINDOW)


@given(journeys(), journeys())
def test_a_window_that_was_given_away_goes_on_as_it_was(before: list[int], after: list[int]) -> None:
    window = ReplayWindow()
    for counter in before:
        window.accept(counter)
    other = ReplayWindow.restore(*window.export())
    assert [window.accept(one) for one in after] == [other.accept(one) for one in after]


def test_a_window_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="128 words, this one 3"):
        ReplayWindow.restore(7, [0, 0, 0])
