"""What /proc says of this very process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from benchmarks.processes import cpu_s, family_cpu_s, resident_mb


def test_work_uses_processor_time() -> None:
    before = cpu_s(os.getpid())
    used = time.process_time()
    while time.process_time() - used < 0.1:
        pass
    # The kernel counts in ticks of 10 ms.
    assert cpu_s(os.getpid()) - before >= 0.08


def test_a_familys_time_is_its_childrens_too() -> None:
    program = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    shell = ["sh", "-c", '"$0" -c "$1"; true', sys.executable, program]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as family:
        assert family.stdin is not None
        assert family.stdout is not None
        family.stdout.readline()
        assert cpu_s(family.pid) < 0.1
        assert family_cpu_s(family.pid) >= 0.18
        family.stdin.write(b"\n")


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
