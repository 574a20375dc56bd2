"""Looking at files, processes and programs."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tulle.doctor.reading import CommandFailed, output, own_processes, sysctl, text


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert text(tmp_path / "none") is None
    assert sysctl("net/none", tmp_path) is None


def test_a_sysctl_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("1\n")
    assert sysctl("key", tmp_path) == "1"


def test_a_program_that_is_not_there_is_none_and_one_that_fails_says_why() -> None:
    assert asyncio.run(output(["/nonexistent/program"])) is None
    fails = "import sys; print('why', file=sys.stderr); sys.exit(3)"
    with pytest.raises(CommandFailed, match="why"):
        asyncio.run(output([sys.executable, "-c", fails]))
    assert asyncio.run(output([sys.executable, "-c", "print(7)"])) == "7\n"


def test_a_program_that_is_given_up_does_not_go_on() -> None:
    async def run() -> None:
        script = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(1000)"
        async with asyncio.timeout(0.5):
            await output([sys.executable, "-c", script])

    with pytest.raises(TimeoutError):
        asyncio.run(run())


def test_our_own_process_is_among_those_of_this_network_namespace() -> None:
    assert own_processes()[os.getpid()]
