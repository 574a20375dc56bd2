"""Counting numbered datagrams."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.lab import flood
from tulle.lab.flood import HEADER, Tally, due

RUN = 7


def count(numbers: list[int], expected: int) -> Tally:
    tally = Tally(expected)
    for now, number in enumerate(numbers):
        tally.add(HEADER.pack(RUN, number), RUN, float(now))
    return tally


@given(st.lists(st.integers(0, 19), max_size=60))
def test_received_repeated_and_lost_add_up_whatever_arrives(numbers: list[int]) -> None:
    tally = count(numbers, 20)
    report = tally.report(0)
    assert report["received"] == len(set(numbers))
    assert report["received"] + report["duplicates"] == len(numbers)
    assert report["received"] + report["lost"] == 20
    assert tally.complete == (set(numbers) == set(range(20)))


@given(st.permutations(range(12)))
def test_reordered_are_those_that_come_after_a_higher_number(numbers: list[int]) -> None:
    highest = list(itertools.accumulate(numbers, max))
    late = sum(number < before for number, before in zip(numbers[1:], highest, strict=False))
    assert count(numbers, 12).report(0)["reordered"] == late


@given(st.binary(max_size=40))
def test_what_is_not_of_this_run_is_foreign(datagram: bytes) -> None:
    tally = Tally(5)
    tally.add(datagram, RUN, 0.0)
    if datagram[:8] != RUN.to_bytes(8, "big"):
        assert (tally.foreign, tally.received) == (1, 0)


def test_a_number_beyond_the_expected_ones_is_foreign() -> None:
    assert count([5], 5).foreign == 1


def test_the_longest_gap_is_between_two_arrivals() -> None:
    tally = Tally(3)
    for number, now in enumerate((10.0, 10.1, 12.6)):
        tally.add(HEADER.pack(RUN, number), RUN, now)
    report = tally.report(0)
    assert report["longest_gap_ms"] == pytest.approx(2500)
    assert report["duration_s"] == pytest.approx(2.6)


@pytest.mark.parametrize(
    ("elapsed", "rate", "sent", "expected"),
    [
        (0.0, 100.0, 0, 1),
        (1.0, 100.0, 1, 100),
        (1.0, 100.0, 500, 0),
        (99.0, 100.0, 0, 1000),
        (0.0, 0.0, 10, 990),
    ],
)
def test_what_is_due_keeps_the_rate_and_never_exceeds_the_count(
    elapsed: float, rate: float, sent: int, expected: int
) -> None:
    assert due(elapsed, rate, sent, 1000) == expected


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_flood_over_loopback_arrives_whole(address: str) -> None:
    report = run_flood(address, sent=2000, expected=2000)
    assert (report["received"], report["lost"], report["duplicates"], report["socket_drops"]) == (
        2000,
        0,
        0,
        0,
    )


def test_what_was_never_sent_is_counted_as_lost() -> None:
    report = run_flood("127.0.0.1", sent=900, expected=1000)
    assert (report["received"], report["lost"]) == (900, 100)


def test_a_receiver_gives_up_when_nothing_comes() -> None:
    receiver = flood.receive("127.0.0.1", 0, count=3, run=RUN, drain_s=0.1, patience_s=0.1)
    assert next(receiver)["listening"] > 0
    assert next(receiver)["lost"] == 3


def run_flood(address: str, *, sent: int, expected: int) -> dict[str, Any]:
    receiver = flood.receive(address, 0, count=expected, run=RUN, drain_s=0.5, patience_s=10)
    port = int(next(receiver)["listening"])
    thread = threading.Thread(
        target=flood.send,
        args=(address, port),
        kwargs={"count": sent, "rate": 10000.0, "size": 64, "run": RUN},
    )
    thread.start()
    report = next(receiver)
    thread.join()
    receiver.close()
    return report
