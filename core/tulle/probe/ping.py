"""Pinging one address: requests at an interval, what became of each, and the times in short."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import msgspec

from tulle.probe.echo import EchoSocket, Heard, wait


class Answer(msgspec.Struct, frozen=True):
    """What became of one request."""

    sequence: int
    rtt_ms: float | None
    """None: it was not answered by a reply."""
    problem: str = ""
    """Why it was not, where anybody said so: "host unreachable, says 192.0.2.1"."""


class Summary(msgspec.Struct, frozen=True):
    """Of a whole run."""

    sent: int
    received: int
    loss_percent: float
    min_ms: float | None = None
    avg_ms: float | None = None
    max_ms: float | None = None


def summary(answers: list[Answer]) -> Summary:
    """Pure."""
    times = [one.rtt_ms for one in answers if one.rtt_ms is not None]
    sent = len(answers)
    loss = 100.0 * (sent - len(times)) / sent if sent else 0.0
    if not times:
        return Summary(sent, 0, loss)
    return Summary(sent, len(times), loss, min(times), sum(times) / len(times), max(times))


def ping(
    opened: EchoSocket,
    address: str,
    *,
    count: int,
    interval_s: float,
    wait_s: float,
    size: int,
    said: Callable[[Answer], None] = lambda answer: None,
) -> list[Answer]:
    """`count` requests (at most MOST), with `size` bytes of payload each. Ends when all are answered, or `wait_s` after
    the last. `said` is told each answer as it comes, and what stayed silent at the end."""
    run = _Run(opened, address, os.urandom(8), said)
    for sequence in range(count):
        last = sequence == count - 1
        run.send(sequence, size)
        run.listen(time.monotonic() + (wait_s if last else interval_s), until_all=last)
    return run.finish()


MOST = 1 << 16
"""Sequence numbers there are."""


class _Run:
    def __init__(self, opened: EchoSocket, address: str, mark: bytes, said: Callable[[Answer], None]) -> None:
        self._opened = opened
        self._address = address
        self._mark = int.from_bytes(mark)
        self._said = said
        self._sent: dict[int, float] = {}
        self._answers: dict[int, Answer] = {}

    def send(self, sequence: int, size: int) -> None:
        self._sent[sequence] = time.monotonic()
        error = self._opened.send(self._address, sequence, self._mark, size)
        if error is not None:
            self._settle(Answer(sequence, None, f"it cannot be sent: {error.strerror}"))

    def listen(self, deadline: float, *, until_all: bool) -> None:
        while not (until_all and len(self._answers) == len(self._sent)) and wait([self._opened], deadline):
            heard = self._opened.heard()
            if heard is None or heard.sequence not in self._sent:
                continue
            if heard.refusal is not None:
                self._settle(Answer(heard.sequence, None, refusal_text(heard)))
            elif heard.mark == self._mark:
                took = (time.monotonic() - self._sent[heard.sequence]) * 1000
                self._settle(Answer(heard.sequence, took))

    def _settle(self, answer: Answer) -> None:
        if answer.sequence not in self._answers:
            self._answers[answer.sequence] = answer
            self._said(answer)

    def finish(self) -> list[Answer]:
        for sequence in self._sent:
            self._settle(Answer(sequence, None))
        return [self._answers[sequence] for sequence in self._sent]


def refusal_text(heard: Heard) -> str:
    """ "packet too big (its MTU is 1400), says 192.0.2.1"."""
    assert heard.refusal is not None
    mtu = f" (its MTU is {heard.refusal.mtu})" if heard.refusal.mtu else ""
    return f"{heard.refusal.reason}{mtu}, says {heard.sender}"
