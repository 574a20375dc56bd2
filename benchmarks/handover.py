"""How long do packets wait while one forwarder takes over from another?

Two nodes; n1's forwarder is replaced while its pod and n2's send to each other. What counts is the longest silence at
each receiver, beside as long a time in which nothing happens: a sender that has to wait for a processor is silent too.
And the pause as tulled tells it, from the old one's release to the successor's word that it works.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figures import Aim, Effort, Result, Turns
from tulle.lab import Lab
from tulle.lab.errors import LabError
from tulle.lab.plan import RUN_DIR
from tulle.node.client import Client

QUESTION = "How long do packets wait while one forwarder takes over from another?"

SILENCE, PAUSE = "longest silence of a flood", "pause that tulled tells"
UNDISTURBED, HANDED_OVER = "undisturbed", "hand-over"
TIMES, FEW = 20, 2
"""Hand-overs, whatever the rounds."""
FLOOD_COUNT, FLOOD_RATE = 1_600, 2_000.0
"""Each way; a hand-over takes about 0.1 s on a quiet machine, most of it to load."""
REPLACE_AFTER_S = 0.2
ANSWER_S = 60.0
AIM_S = 0.010
WAYS = (("out", "n1/p1", "n2/p1"), ("in", "n2/p1", "n1/p1"))


def measure(effort: Effort) -> Result:
    turns = Turns()
    counts: dict[str, int] = {}
    with Lab(nodes=2, pods=1, engine="python") as lab:
        for _ in range(effort.of(TIMES, FEW)):
            for subject in (UNDISTURBED, HANDED_OVER):
                one_turn(lab, turns, counts, subject)
    figures = [
        turns.figure(SILENCE, "s", "lower", baseline=UNDISTURBED, aims=[Aim(HANDED_OVER, AIM_S)]),
        turns.figure(PAUSE, "s", "lower", aims=[Aim(HANDED_OVER, AIM_S)]),
    ]
    silences = turns.values[SILENCE][HANDED_OVER]
    note = (
        f"{len(silences)} silences, two of each hand-over, in ms: median {statistics.median(silences) * 1000:.1f}, "
        f"worst {max(silences) * 1000:.1f}; undisturbed worst {max(turns.values[SILENCE][UNDISTURBED]) * 1000:.1f}"
    )
    return Result(figures, counts, [note])


def one_turn(lab: Lab, turns: Turns, counts: dict[str, int], subject: str) -> None:
    """Floods both ways, and in their middle a hand-over where that is asked for."""
    with ExitStack() as stack:
        floods = [
            stack.enter_context(lab.flood(source, target, count=FLOOD_COUNT, rate=FLOOD_RATE))
            for _, source, target in WAYS
        ]
        time.sleep(REPLACE_AFTER_S)
        if subject == HANDED_OVER:
            turns.add(PAUSE, subject, replace(lab) / 1000)
        for (way, _, _), flood in zip(WAYS, floods, strict=True):
            found = flood.finish()
            turns.add(SILENCE, subject, found.longest_gap_ms / 1000)
            for name, value in (("sent", found.sent), ("lost", found.lost)):
                key = f"{subject}, {way}: {name}"
                counts[key] = counts.get(key, 0) + value


def replace(lab: Lab) -> float:
    """What tulled says of the pause, in ms. Raises LabError, and what `Client` raises."""
    pid = lab.tulled_pid("n1")
    if pid is None:
        raise LabError(f"n1's tulled has ended. Its log ends:\n{lab.log_tail('n1')}")
    return float(Client(Path(f"/proc/{pid}/root{RUN_DIR}"), ANSWER_S).post("forwarder/replace")["pause_ms"])
