"""Medians, ratios turn by turn, aims, and how they are shown."""

from __future__ import annotations

import pytest
from benchmarks.figures import Aim, Effort, Figure, Turns, short, table


def figure(**changes: object) -> Figure:
    values = {"ours": [2.0, 30.0, 5.0], "theirs": [1.0, 10.0, 5.0]}
    given = {"name": "speed", "unit": "Gb/s", "better": "higher", "values": values, "baseline": "theirs"}
    return Figure(**{**given, **changes})  # type: ignore[arg-type]


def test_a_ratio_is_the_median_of_those_within_each_turn() -> None:
    # By turns 2, 3, 1; of the medians it would be 5 / 5.
    assert figure().ratio("ours") == 2.0
    assert figure().ratio("theirs") == 1.0


def test_there_is_no_ratio_without_a_baseline_or_to_nothing() -> None:
    assert figure(baseline=None).ratio("ours") is None
    assert figure(values={"ours": [1.0], "theirs": [0.0]}).ratio("ours") is None


def test_turns_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        figure(values={"ours": [1.0], "theirs": [1.0, 2.0]}).ratio("ours")


@pytest.mark.parametrize(
    ("better", "limit", "met"),
    [("higher", 5.0, True), ("higher", 5.1, False), ("lower", 5.0, True), ("lower", 4.9, False)],
)
def test_an_aim_is_met_by_the_median(better: str, limit: float, met: bool) -> None:
    aim = Aim("ours", limit)
    assert figure(better=better).met(aim) is met
    assert figure(better=better, aims=[aim]).data()["aims"] == [
        {"subject": "ours", "limit": limit, "met": met}
    ]


def test_the_data_holds_median_spread_and_every_turn() -> None:
    assert figure().data()["subjects"]["ours"] == {
        "median": 5.0,
        "lowest": 2.0,
        "highest": 30.0,
        "ratio": 2.0,
        "rounds": [2.0, 30.0, 5.0],
    }


def test_a_table_shows_ratio_median_spread_and_a_missed_aim() -> None:
    head, ours, theirs, aim = table(figure(aims=[Aim("ours", 9.0)]))
    assert head == "speed (Gb/s, more is better)"
    assert ours.split() == ["ours", "2x", "5", "(2", "..", "30)"]
    assert theirs.split() == ["theirs", "1x", "5", "(1", "..", "10)"]
    assert aim == "  aim: ours >= 9 Gb/s: MISSED"


def test_turns_collect_by_figure_and_subject() -> None:
    turns = Turns()
    for value in (1.0, 2.0):
        turns.add("RTT", "kernel", value)
    turns.add("TCP", "kernel", 9.0)
    assert turns.figure("RTT", "us", "lower").values == {"kernel": [1.0, 2.0]}
    with pytest.raises(KeyError):
        turns.figure("UDP", "k/s", "higher")


def test_quick_is_one_turn_of_the_smaller_amount() -> None:
    assert (Effort(quick=True, rounds=5).turns, Effort(quick=True).of(100, 3)) == (1, 3)
    assert (Effort(rounds=5).turns, Effort().of(100, 3)) == (5, 100)


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12346"), (999.4, "999"), (0.01234, "0.0123"), (0.0, "0")]
)
def test_numbers_show_three_digits(value: float, text: str) -> None:
    assert short(value) == text
