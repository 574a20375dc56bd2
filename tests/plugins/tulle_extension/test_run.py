"""A command runs to its end, with what it is told and nothing else; what goes wrong is said and leaves nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest

from tulle_extension.run import LINGER_S, LOGGED_CHARACTERS, MAX_OUTPUT_BYTES, Outcome, run


def go(command: str, stdin: str = "", timeout_s: float = 30.0, **environment: str) -> Outcome:
    before = set(os.listdir("/proc/self/fd"))
    found = asyncio.run(run("Command", command, environment, stdin, timeout_s))
    assert set(os.listdir("/proc/self/fd")) == before
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_its_standard_output_comes_back_without_white_space_at_the_ends() -> None:
    assert go("echo; echo '  one two '; echo oops >&2") == Outcome("", "one two")


def test_the_variables_and_our_own_environment_reach_it() -> None:
    assert go('echo "$SUBNET $PATH"', SUBNET="10.1.0.0/16").output == f"10.1.0.0/16 {os.environ['PATH']}"


def test_a_line_feed_follows_the_text_so_that_read_takes_it() -> None:
    assert go('read -r KEY && echo "<$KEY>"', "abc").output == "<abc>"
    assert go('read -r KEY && echo "<$KEY>"').output == "<>"


@pytest.mark.parametrize(
    "text", ["$(touch pwned)", "`touch pwned`", "'; touch pwned #", '"\n touch pwned', "\0|&;<>"]
)
def test_no_text_becomes_a_part_of_the_command(text: str, tmp_path: Path) -> None:
    found = go(f"cd {tmp_path} && cat > got && ls", text)
    assert found.output == "got"
    assert (tmp_path / "got").read_bytes() == text.encode() + b"\n"


def test_a_text_that_nobody_reads_holds_up_nothing() -> None:
    assert go("true", "x" * 1_000_000) == Outcome()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("exit 3", "Command ended with status 3"),
        ("echo early; echo why >&2; echo really >&2; exit 1", "Command ended with status 1: really"),
        ("echo said; false", "Command ended with status 1: said"),
        ("kill -TERM $$", "Command was ended by signal 15"),
        ("/no/such/program 2>/dev/null", "Command ended with status 127"),
    ],
)
def test_an_exit_status_is_said_with_the_last_line(command: str, error: str) -> None:
    assert go(command).error == error


def test_without_a_shell_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert go("true").error.startswith("Command cannot be started: No such file")


def test_one_that_takes_too_long_is_killed_with_what_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    found = go(f"sleep 60 & echo $! > {tmp_path}/pid; echo waiting; wait", timeout_s=0.3)
    assert found.error == "Command did not end within 0.3 s and was killed: waiting"
    assert time.monotonic() - began < 20
    assert not alive(int((tmp_path / "pid").read_text()))


def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    found = go(f"sleep 60 & echo $! > {tmp_path}/pid; echo done")
    try:
        assert found == Outcome("", "done")
        assert LINGER_S <= time.monotonic() - began < 20
        assert alive(int((tmp_path / "pid").read_text()))
    finally:
        os.kill(int((tmp_path / "pid").read_text()), 9)


def test_a_run_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(run("Command", f"echo $$ > {tmp_path}/pid; sleep 60", {}, "", 30.0))
        async with asyncio.timeout(20):
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not alive(int((tmp_path / "pid").read_text()))


def test_output_without_end_is_cut_and_the_rest_thrown_away() -> None:
    found = go("i=0; while [ $i -lt 40 ]; do printf '%05000d' 7; i=$((i+1)); done")
    assert (len(found.output), found.cut, found.error) == (MAX_OUTPUT_BYTES, True, "")


def test_output_that_just_fits_is_whole() -> None:
    found = go(f"head -c {MAX_OUTPUT_BYTES} /dev/zero | tr '\\0' x")
    assert (len(found.output), found.cut) == (MAX_OUTPUT_BYTES, False)


def test_output_that_is_no_text_is_no_error() -> None:
    assert go("printf '\\377\\376ok'").output == "\ufffd\ufffdok"


def test_the_log_gets_both_outputs_on_one_line_each_and_not_without_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "tulle.extension"):
        go("echo one; echo two; printf '%09000d' 7 >&2")
    out, err = (record.getMessage() for record in caplog.records)
    assert out == "command-output of='Command' stdout='one\\ntwo'"
    assert LOGGED_CHARACTERS < len(err) < LOGGED_CHARACTERS + 100
