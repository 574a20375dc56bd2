"""Counting echoes: the arithmetic, and loopback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tulle.net.echo import Refusal
from tulle.probe.echo import EchoSocket, Heard
from tulle.probe.ping import Answer, Summary, ping, refusal_text, summary


def test_a_summary_counts_silence_as_loss_and_leaves_it_out_of_the_times() -> None:
    answers = [Answer(0, 1.0), Answer(1, None), Answer(2, 3.0), Answer(3, None, "host unreachable")]
    assert summary(answers) == Summary(4, 2, 50.0, 1.0, 2.0, 3.0)
    assert summary([Answer(0, None)]) == Summary(1, 0, 100.0)
    assert summary([]) == Summary(0, 0, 0.0)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_each_answer_is_told_once_and_in_order(inside: Callable[..., Any], address: str) -> None:
    def run() -> None:
        told: list[Answer] = []
        with EchoSocket(6 if ":" in address else 4) as opened:
            answers = ping(opened, address, count=3, interval_s=0.01, wait_s=1, size=8, said=told.append)
        assert [one.sequence for one in answers] == [0, 1, 2]
        assert all(one.rtt_ms is not None for one in answers)
        assert told == answers

    inside(run)


def test_what_cannot_be_sent_says_why(inside: Callable[..., Any]) -> None:
    def run() -> None:
        with EchoSocket(4) as opened:
            (answer,) = ping(opened, "192.0.2.1", count=1, interval_s=0, wait_s=0.1, size=8)
        assert answer.rtt_ms is None
        assert "unreachable" in answer.problem

    inside(run)


def test_an_error_is_told_with_who_says_it_and_the_mtu() -> None:
    heard = Heard("192.0.2.1", 0, 0, 0, Refusal(1, 2, "packet too big", 1400))
    assert refusal_text(heard) == "packet too big (its MTU is 1400), says 192.0.2.1"
