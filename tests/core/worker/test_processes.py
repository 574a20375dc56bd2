"""Processes found by their arguments, waited for and ended."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from tulle.worker.processes import kill, pidfd, running, wait_for_end


@pytest.fixture
def mark() -> str:
    return f"mark-{uuid.uuid4().hex}"


@pytest.fixture
def sleeper(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()",
            mark,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.read(1)  # it runs its own program now
    with child:
        yield child
        child.kill()


def test_a_process_is_found_by_whole_arguments_only(sleeper: subprocess.Popen[bytes], mark: str) -> None:
    assert list(running(["-c", mark])) == [sleeper.pid]
    assert list(running([mark[:-1]])) == []
    assert list(running([mark, "another"])) == []


def test_a_process_is_killed_where_its_command_line_has_the_marker(
    sleeper: subprocess.Popen[bytes], mark: str
) -> None:
    assert not kill(sleeper.pid, mark + "x")
    assert not wait_for_end(sleeper.pid, 0.0)
    assert kill(sleeper.pid, mark)
    assert wait_for_end(sleeper.pid, 5.0)
    assert sleeper.wait() == -9


def test_no_process_is_as_good_as_an_ended_one(sleeper: subprocess.Popen[bytes], mark: str) -> None:
    sleeper.kill()
    sleeper.wait()
    assert wait_for_end(sleeper.pid, 0.0)
    assert not kill(sleeper.pid, mark)


@pytest.mark.parametrize("number", [0, -1])
def test_numbers_that_mean_many_processes_are_never_taken(number: int) -> None:
    assert not kill(number, "")
    with pytest.raises(ProcessLookupError), pidfd(number):
        pass


def test_a_pidfd_is_closed_at_the_end() -> None:
    with pidfd(os.getpid()) as descriptor:
        os.fstat(descriptor)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)
