"""Token buckets: never more than burst and rate allow, and sources do not disturb each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard.limits import Bucket, SourceLimits

V4, V4_NEXT = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
V6 = bytes.fromhex("20010db8000000010000000000000001")
V6_SAME_64 = bytes.fromhex("20010db800000001ffffffffffffffff")
V6_NEXT_64 = bytes.fromhex("20010db8000000020000000000000001")


@given(st.lists(st.floats(0, 0.5), max_size=100))
def test_a_bucket_gives_no_more_than_burst_and_rate(gaps: list[float]) -> None:
    bucket, now, given_out = Bucket(20, 5, 0.0), 0.0, 0
    for gap in gaps:
        now += gap
        given_out += bucket.take(now)
        assert given_out <= 5 + 20 * now + 1e-6


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(20, 5, 0.0)
    assert [bucket.take(0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert abs(bucket.next_at(0.0) - 0.05) < 1e-9
    assert sum(bucket.take(number / 100) for number in range(1, 103)) == 20


def test_a_clock_that_stands_or_goes_back_gives_nothing_extra() -> None:
    bucket = Bucket(20, 1, 10.0)
    assert bucket.take(10.0)
    assert not bucket.take(9.0)
    assert not bucket.take(10.0)


def test_each_source_has_a_bucket_of_its_own_and_ipv6_one_for_a_64() -> None:
    limits = SourceLimits()
    for _ in range(5):
        assert limits.allow(V4, 0.0)
        assert limits.allow(V6, 0.0)
    assert not limits.allow(V4, 0.0)
    assert not limits.allow(V6_SAME_64, 0.0)
    assert limits.allow(V4_NEXT, 0.0)
    assert limits.allow(V6_NEXT_64, 0.0)


def test_sources_that_are_quiet_are_forgotten() -> None:
    limits = SourceLimits(known=10)
    for number in range(10):
        assert limits.allow(bytes([10, 0, 0, number]), 0.0)
    assert not limits.allow(V4_NEXT[:3] + b"\xff", 0.0)
    assert limits.allow(V4_NEXT[:3] + b"\xff", 1.0)
    assert len(limits) == 1


def test_a_table_that_is_full_still_serves_those_in_it() -> None:
    limits = SourceLimits(known=2)
    assert limits.allow(V4, 0.0)
    assert limits.allow(V4_NEXT, 0.0)
    assert not limits.allow(V6, 0.0)
    assert limits.allow(V4, 0.0)
    assert len(limits) == 2
