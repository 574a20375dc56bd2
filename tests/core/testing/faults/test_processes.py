"""Killing and freezing real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tulle.testing.faults.processes import cpu_s, frozen, kill, resident_bytes

TICKER = "import sys, time\nwhile True: print('tick', flush=True); time.sleep(0.01)"


@pytest.fixture
def ticker() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", TICKER], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_killed_process_has_ended_when_kill_returns(ticker: subprocess.Popen[bytes]) -> None:
    kill(ticker.pid)
    assert ticker.poll() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        kill(ticker.pid)


def test_a_process_that_does_not_end_is_told_of(ticker: subprocess.Popen[bytes]) -> None:
    with frozen(ticker.pid), pytest.raises(TimeoutError, match=r"did not end within 0\.1 s of signal 15"):
        kill(ticker.pid, signal.SIGTERM, within_s=0.1)


def test_a_frozen_process_does_nothing_and_goes_on_afterwards(ticker: subprocess.Popen[bytes]) -> None:
    with frozen(ticker.pid):
        before = cpu_s(ticker.pid)
        time.sleep(0.1)
        assert cpu_s(ticker.pid) == before
    assert ticker.stdout is not None
    assert ticker.stdout.readline() == b"tick\n"
    assert ticker.poll() is None


def test_a_frozen_process_may_be_killed(ticker: subprocess.Popen[bytes]) -> None:
    with frozen(ticker.pid):
        kill(ticker.pid)


def test_time_and_memory_of_a_process_are_those_that_it_uses() -> None:
    code = "import time; held = bytearray(50 << 20)\nwhile time.process_time() < 0.5: pass\nprint(1); input()"
    with subprocess.Popen(
        [sys.executable, "-uc", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 0.45 <= cpu_s(process.pid) < 2
        assert resident_bytes(process.pid) > 50 << 20
        process.communicate(b"\n", timeout=10)
