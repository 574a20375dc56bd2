"""Timestamps: the label's bytes, and that they only ever grow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard.constants import TIMESTAMP_STEP_NS
from tulle_wireguard.tai64n import Stamps, encode

SECOND = 10**9


def test_the_label_of_a_known_moment() -> None:
    """The epoch as others have it, and the example of libtai's page, which counts the leap seconds that we do not."""
    assert encode(0) == bytes.fromhex("400000000000000a00000000")
    leap_seconds_since_1972 = 16
    unix = 707472403 + leap_seconds_since_1972  # 1992-06-02 08:06:43 UTC
    assert encode(unix * SECOND) == bytes.fromhex("400000002a2b2c2d00000000")


def test_nanoseconds_are_rounded_down_to_the_step() -> None:
    assert encode(SECOND + TIMESTAMP_STEP_NS - 1) == encode(SECOND)
    assert encode(SECOND + TIMESTAMP_STEP_NS)[8:] == TIMESTAMP_STEP_NS.to_bytes(4)


@given(st.integers(0, 2**62), st.integers(0, 2**40))
def test_bytes_compare_as_the_times_do(start: int, later: int) -> None:
    assert encode(start) <= encode(start + later)


@given(st.lists(st.integers(0, 4 * SECOND), min_size=2, max_size=200))
def test_stamps_grow_whatever_the_clock_does(clock: list[int]) -> None:
    stamps = Stamps()
    made = [stamps.next(time) for time in clock]
    assert made == sorted(set(made))


def test_stamps_follow_the_clock_where_it_goes_on() -> None:
    stamps = Stamps()
    assert stamps.next(5 * SECOND) == encode(5 * SECOND)
    assert stamps.next(9 * SECOND) == encode(9 * SECOND)


def test_a_restart_with_the_last_stamp_goes_on_after_it() -> None:
    before = Stamps()
    last = before.next(1000 * SECOND)
    assert Stamps(before.last_ns).next(3 * SECOND) > last
