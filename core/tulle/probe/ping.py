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
    """`size`: bytes of payload. `said` is told each answer as it comes, and each silence when it is certain: the next
    request is due, or `wait_s` after the last."""
    mark = int.from_bytes(os.urandom(8))
    answers: list[Answer] = []
    begin = time.monotonic()
    for sequence in range(count):
        due = begin + (sequence + 1) * interval_s
        patience = max(wait_s, due - time.monotonic()) if sequence == count - 1 else None
        answer = one(opened, address, sequence, mark, size, patience if patience else interval_s)
        answers.append(answer)
        said(answer)
        if sequence < count - 1:
            time.sleep(max(0.0, due - time.monotonic()))
    return answers


def one(opened: EchoSocket, address: str, sequence: int, mark: int, size: int, wait_s: float) -> Answer:
    """One request; ends with its answer, or after `wait_s` seconds."""
    sent = time.monotonic()
    error = opened.send(address, sequence, mark, size)
    if error is not None:
        return Answer(sequence, None, f"it cannot be sent: {error.strerror}")
    while wait([opened], sent + wait_s):
        heard = opened.heard()
        if heard is not None and heard.sequence == sequence & 0xFFFF:
            if heard.refusal is not None:
                return Answer(sequence, None, refusal_text(heard))
            if heard.mark == mark:
                return Answer(sequence, (time.monotonic() - sent) * 1000)
    return Answer(sequence, None)


def refusal_text(heard: Heard) -> str:
    """ "packet too big (its MTU is 1400), says 192.0.2.1"."""
    assert heard.refusal is not None
    mtu = f" (its MTU is {heard.refusal.mtu})" if heard.refusal.mtu else ""
    return f"{heard.refusal.reason}{mtu}, says {heard.sender}"
