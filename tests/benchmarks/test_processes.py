"""What /proc says of this very process."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from benchmarks.processes import cpu_s, resident_mb


def test_work_uses_processor_time() -> None:
    before = cpu_s(os.getpid())
    used = time.process_time()
    while time.process_time() - used < 0.1:
        pass
    # The kernel counts in ticks of 10 ms.
    assert cpu_s(os.getpid()) - before >= 0.08


def test_this_process_lies_in_memory() -> None:
    assert 5 < resident_mb(os.getpid()) < 5000


def test_an_ended_process_has_no_memory() -> None:
    child = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ValueError, match="has ended"):
            resident_mb(child.pid)
    finally:
        child.wait()
