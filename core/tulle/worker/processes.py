"""Processes that are ours but not our children: found by their command line, waited for and ended by pidfd.

A pidfd means this very process, whatever becomes of its number (pidfd_open(2)).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path


def running(words: Sequence[str]) -> Iterator[int]:
    """Process ids, in this network namespace, of the processes whose arguments hold all these words."""
    here = os.readlink("/proc/self/ns/net")
    wanted = {word.encode() for word in words}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if wanted.issubset(arguments) and os.readlink(entry / "ns/net") == here:
                yield int(entry.name)
        except OSError:
            continue


def kill(pid: int, marker: str) -> bool:
    """SIGKILL a process whose command line contains `marker`; another that has got its number since is left alone."""
    try:
        with pidfd(pid) as target:
            if marker.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return False
            signal.pidfd_send_signal(target, signal.SIGKILL)
    except OSError:
        return False
    return True


def wait_for_end(pid: int, timeout: float) -> bool:
    """Whether the process ended within `timeout` seconds."""
    try:
        with pidfd(pid) as target:
            return bool(select.select([target], [], [], timeout)[0])
    except ProcessLookupError:
        return True


@contextlib.contextmanager
def pidfd(pid: int) -> Iterator[int]:
    """Raises ProcessLookupError where there is no such process."""
    if pid <= 0:
        raise ProcessLookupError(pid)
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
