"""A process that is killed, or that stands still and comes back; and what it costs meanwhile."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

END_S = 10.0
"""A killed process may still have to write out what the kernel holds for it."""


def kill(pid: int, number: int = signal.SIGKILL, within_s: float = END_S) -> None:
    """Signal it, and wait until it has ended; it need not be our child, and its parent reaps it. Raises
    ProcessLookupError where it does not run, TimeoutError where it does not end."""
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, number)
        if not select.select([handle], [], [], within_s)[0]:
            raise TimeoutError(f"process {pid} did not end within {within_s:g} s of signal {number}")
    finally:
        os.close(handle)


def suspend(pid: int, within_s: float = END_S) -> None:
    """SIGSTOP: its sockets stay open and nothing answers. Returns when all its threads stand still."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + within_s
    while any(state not in "TtZX" for state in _states(pid)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not stand still {within_s:g} s after SIGSTOP")
        time.sleep(0.001)


def resume(pid: int) -> None:
    """SIGCONT."""
    os.kill(pid, signal.SIGCONT)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Suspended in the block, resumed behind it (where it still is there)."""
    suspend(pid)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resume(pid)


def cpu_s(pid: int) -> float:
    """Seconds of processor time that it has used, in all its threads (proc_pid_stat(5))."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory that it holds (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _states(pid: int) -> list[str]:
    """One letter a thread."""
    found = []
    with suppress(FileNotFoundError):  # it has been reaped
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # this one has just ended
                found.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return found
