"""Stays in a pod and pings others, ten times a second each: `watcher.py ADDRESS...`; tells when asked.

A line of JSON on standard input is a question: {"since": T, "until": T2 or null}, in seconds of CLOCK_MONOTONIC. The
answer, by address: "back", the seconds from T to the first of RUN answers in a row (null: not yet), and "silent", the
longest time without an answer in between. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections import deque
from contextlib import ExitStack
from typing import Any

from tulle.net.prefix import Family
from tulle.probe.echo import EchoSocket

INTERVAL_S = 0.1
RUN = 5
"""Answers in a row: one could be luck."""
KEPT = 6000
"""Requests remembered of each target: ten minutes."""
SETTLED_S = 1.0
"""A request this old without an answer is lost. A quiet machine answers in a millisecond."""


class Target:
    """One address, and what became of the requests to it. Pure."""

    def __init__(self) -> None:
        self._sent: deque[list[float | None]] = deque(maxlen=KEPT)  # [sent, answered or None]
        self._first = 0

    def send(self, now: float) -> int:
        """Returns the request's number."""
        if len(self._sent) == KEPT:
            self._first += 1
        self._sent.append([now, None])
        return self._first + len(self._sent) - 1

    def answer(self, number: int, now: float) -> None:
        """Numbers come back modulo 2^16."""
        index = (number - self._first) & 0xFFFF
        if index < len(self._sent) and self._sent[index][1] is None:
            self._sent[index][1] = now

    def back(self, since: float) -> float | None:
        row: list[float] = []
        for sent, answered in self._sent:
            assert sent is not None
            if sent < since:
                continue
            row = [*row, answered] if answered is not None else []
            if len(row) == RUN:
                return row[0] - since
        return None

    def silent(self, since: float, until: float) -> float:
        """From a lost request to the next one that was answered."""
        longest, began = 0.0, None
        for sent, answered in self._sent:
            assert sent is not None
            if not since <= sent <= until:
                continue
            if answered is None:
                began = sent if began is None else began
            elif began is not None:
                longest, began = max(longest, sent - began), None
        return max(longest, until - began) if began is not None else longest


class Watcher:
    """The sockets, and whom they ask."""

    def __init__(self, addresses: list[str], stack: ExitStack) -> None:
        self.targets = {address: Target() for address in addresses}
        run = int.from_bytes(os.urandom(6)) << 16
        self._marks = {run + number: address for number, address in enumerate(addresses)}
        self._sockets = {family_of(one): stack.enter_context(EchoSocket(family_of(one))) for one in addresses}

    def ask_all(self) -> None:
        for mark, address in self._marks.items():
            number = self.targets[address].send(time.monotonic())
            self._sockets[family_of(address)].send(address, number, mark, 8)

    def listen(self, until: float) -> bool:
        """Takes answers until then. Returns at once, and True, when standard input has something to say."""
        while (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([sys.stdin, *self._sockets.values()], [], [], left)
            for opened in self._sockets.values():
                if opened in readable and (heard := opened.heard()) and heard.mark in self._marks:
                    self.targets[self._marks[heard.mark]].answer(heard.sequence, time.monotonic())
            if sys.stdin in readable:
                return True
        return False


def main(addresses: list[str]) -> None:
    with ExitStack() as stack:
        watcher = Watcher(addresses, stack)
        print(json.dumps("ready"), flush=True)
        due, heard = time.monotonic(), b""
        while True:
            watcher.ask_all()
            due = max(due + INTERVAL_S, time.monotonic())
            while watcher.listen(due):
                piece = os.read(sys.stdin.fileno(), 1 << 16)
                if not piece:
                    return
                *lines, heard = (heard + piece).split(b"\n")
                for line in lines:
                    print(json.dumps(told(watcher.targets, json.loads(line))), flush=True)


def told(targets: dict[str, Target], asked: dict[str, Any]) -> dict[str, Any]:
    since = asked["since"]
    until = asked["until"] or time.monotonic() - SETTLED_S
    return {
        name: {"back": one.back(since), "silent": one.silent(since, until)} for name, one in targets.items()
    }


def family_of(address: str) -> Family:
    return 6 if ":" in address else 4


if __name__ == "__main__":
    main(sys.argv[1:])
