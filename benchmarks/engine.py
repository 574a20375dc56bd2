"""How much of the python engine's time is Python?

Batches of 64 packets by way of the engine and by the same system calls alone, in turns, out of the TUN and into it,
with large and with small packets. The TUN is a socket pair (see `rig`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.figures import Effort, Figure, Result, Turns
from benchmarks.rig import BenchRig
from tulle.forward.python_engine import BATCH

QUESTION = "How much of the python engine's time is Python?"

ENGINE, BARE = "engine", "system calls alone"
SIZES = {"large": 1400, "small": 92}
"""Bytes of an inner packet; 92 is a UDP datagram of 64."""
REPEATS, QUICK_REPEATS = 200, 5
"""Batches in one turn."""


def measure(effort: Effort) -> Result:
    turns = Turns()
    counts: dict[str, int] = {}
    figures: list[Figure] = []
    repeats = effort.of(REPEATS, QUICK_REPEATS)
    for word, size in SIZES.items():
        with BenchRig(size) as rig:
            ways = {
                f"outbound, {word}": (
                    rig.fill_out,
                    rig.drain_out,
                    {ENGINE: rig.engine_out, BARE: rig.bare_out},
                ),
                f"inbound, {word}": (rig.fill_in, rig.drain_in, {ENGINE: rig.engine_in, BARE: rig.bare_in}),
            }
            for name, (fill, drain, subjects) in ways.items():
                for _ in range(effort.turns):
                    for subject, work in subjects.items():
                        ns, moved = timed(fill, work, drain, repeats)
                        turns.add(name, subject, ns / repeats / BATCH)
                        counts[f"{name}: {subject}"] = counts.get(f"{name}: {subject}", 0) + moved
                figures.append(turns.figure(name, "ns a packet", "lower", baseline=BARE))
    return Result(figures, counts)


def timed(
    fill: Callable[[], None], work: Callable[[], None], drain: Callable[[], int], repeats: int
) -> tuple[int, int]:
    """Nanoseconds of `work` alone, and how many packets came through."""
    total = moved = 0
    for _ in range(repeats):
        fill()
        start = time.perf_counter_ns()
        work()
        total += time.perf_counter_ns() - start
        moved += drain()
    return total, moved
