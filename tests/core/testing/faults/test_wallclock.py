"""Another time of day for one program."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tulle.testing.faults.wallclock import NoFaketime, WallClock

CLOCKS = """
import sys, threading, time
for line in sys.stdin:
    threading.Event().wait(0.05)  # waiting must go on through a step
    print(time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
"""
DAY_S = 86_400.0


def test_a_step_moves_the_wall_clock_of_that_program_and_nothing_else(tmp_path: Path) -> None:
    try:
        clock = WallClock(tmp_path)
    except NoFaketime as reason:
        pytest.skip(str(reason))
    command = clock.command([sys.executable, "-c", CLOCKS])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        for step_s, offset_s in ((0.0, 0.0), (DAY_S, DAY_S), (-2 * DAY_S, -DAY_S), (0.5, 0.5 - DAY_S)):
            clock.step(step_s)
            process.stdin.write("\n")
            process.stdin.flush()
            wall, steady, boot = map(float, process.stdout.readline().split())
            assert wall - time.time() == pytest.approx(offset_s, abs=0.25)
            assert steady == pytest.approx(time.monotonic(), abs=0.25)
            assert boot == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=0.25)
        process.stdin.close()
        process.wait(10)
