"""A lab lives as long as its first process, and that as long as its owner."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.lab.launch import Launched, end, launch
from tulle.lab.namespaces import KINDS
from tulle.lab.registry import Process, start_time

pytestmark = pytest.mark.lab

OWNER = """
import sys
from tulle.lab.launch import launch
lab = launch("owned")
if sys.argv[1] == "detach":
    lab.detach()
print(lab.process.pid, lab.process.start, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def launched() -> Iterator[Launched]:
    lab = launch("test")
    yield lab
    lab.close()


def ended(process: Process, timeout: float = 10.0) -> bool:
    """Wait until a process that is not our child has ended."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        return not process.alive() or bool(select.select([handle], [], [], timeout)[0])
    finally:
        os.close(handle)


def host_view() -> tuple[list[str], str]:
    """What a lab must not change outside."""
    return sorted(os.listdir("/sys/class/net")), Path("/proc/self/mountinfo").read_text()


def owner(how: str) -> tuple[subprocess.Popen[str], Process]:
    """Another process that has a lab."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pid, start = process.stdout.readline().split()
    return process, Process(int(pid), int(start))


def test_a_lab_has_every_namespace_for_itself(launched: Launched) -> None:
    for kind in KINDS:
        assert (
            os.stat(f"/proc/{launched.process.pid}/ns/{kind}").st_ino
            != os.stat(f"/proc/self/ns/{kind}").st_ino
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ending_the_first_process_ends_the_lab_and_the_host_is_as_it_was(number: int) -> None:
    before = host_view()
    lab = launch("test")
    assert lab.process.alive()
    assert host_view() == before
    assert end(lab.process, number)
    assert ended(lab.process)
    assert not lab.process.alive()
    assert host_view() == before
    lab.close()


def test_a_lab_that_has_ended_cannot_be_ended_again(launched: Launched) -> None:
    assert end(launched.process)
    assert not end(launched.process)


def test_what_a_terminal_sends_does_not_end_the_lab(launched: Launched) -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        os.kill(launched.process.pid, number)
    assert not ended(launched.process, timeout=0.2)


def test_letting_go_ends_the_lab(launched: Launched) -> None:
    launched.close()
    assert ended(launched.process)


def test_a_lab_ends_with_an_owner_who_was_killed() -> None:
    holder, lab = owner("keep")
    assert lab.alive()
    holder.kill()
    holder.communicate()
    assert ended(lab)


def test_a_detached_lab_outlives_its_owner() -> None:
    holder, lab = owner("detach")
    holder.communicate("")
    assert lab.alive()
    assert end(lab)


def test_a_lab_does_not_hold_its_owners_output_open() -> None:
    holder, lab = owner("detach")
    holder.kill()
    try:
        assert holder.communicate(timeout=10)[0] == ""  # the pipe's end is seen while the lab lives
        assert lab.alive()
    finally:
        end(lab)


def test_several_labs_start_at_once() -> None:
    found: list[Launched] = []
    threads = [threading.Thread(target=lambda: found.append(launch("many"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({lab.process for lab in found}) == 4
    for lab in found:
        end(lab.process)
        lab.close()
    assert [start_time(lab.process.pid) for lab in found] == [None] * 4
