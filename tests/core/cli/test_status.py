"""`tulle status`, where nothing runs and where something does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tulle.contracts.backend import Problem
from tulle.node.answers import PeerAnswer, StatusAnswer
from tulle.node.http import HttpError

MakeStatus = Callable[..., StatusAnswer]

STATUS_CPU_S = 0.300
"""Issue 4's limit, of a quiet machine; twice that is allowed here."""
HEAVY = {
    "asyncio",
    "grpc",
    "google.protobuf",
    "pyroute2",
    "rich",
    "prometheus_client",
    "sqlite3",
    "tulle.plugins",
}


def peer(number: int) -> PeerAnswer:
    return PeerAnswer(
        key=f"10.42.{number}.0-24",
        node=f"n{number}",
        subnets=[f"10.42.{number}.0/24"],
        endpoints=[f"192.0.2.{number}"],
        backend="",
    )


def test_where_nothing_runs_it_says_so_and_what_to_look_at(tulle: Any, tmp_path: Path) -> None:
    said = tulle("status", f"--run-dir={tmp_path}")
    assert (said.status, said.out) == (1, "")
    assert f"{tmp_path / 'tulled.sock'}: tulled does not answer (there is no such socket)" in said.err
    assert "is --run-dir right?" in said.err
    assert "Errno" not in said.err


def test_a_node_that_is_ready_is_one_screen_and_status_0(
    tulle: Any, short_dir: Path, serving: Any, make_status: MakeStatus
) -> None:
    answer = make_status(peers=[peer(6), peer(7)])
    with serving(short_dir, {"status": answer}):
        said = tulle("status", f"--run-dir={short_dir}")
    assert (said.status, said.err) == (0, "")
    for words in ("n1: ready", "10.42.5.0/24 of 10.42.0.0/16", "eth0, MTU 1500", "n6", "192.0.2.7"):
        assert words in said.out
    assert len(said.out.splitlines()) < 25


def test_a_node_that_is_not_ready_says_why_and_is_status_1(
    tulle: Any, short_dir: Path, serving: Any, make_status: MakeStatus
) -> None:
    answer = make_status(ready=False, not_ready_because=["waiting for the network config"])
    with serving(short_dir, {"status": answer}):
        said = tulle("status", f"--run-dir={short_dir}")
    assert said.status == 1
    assert "not ready: waiting for the network config" in said.out


def test_programs_are_given_what_tulled_said(
    tulle: Any, short_dir: Path, serving: Any, make_status: MakeStatus
) -> None:
    answer = make_status(peers=[peer(6)])
    with serving(short_dir, {"status": answer}):
        as_json = tulle("status", f"--run-dir={short_dir}", "-o", "json")
        as_yaml = tulle("status", f"--run-dir={short_dir}", "-o", "yaml")
    assert json.loads(as_json.out) == msgspec.to_builtins(answer)
    assert as_yaml.out.startswith("node: n1\n")
    assert '- "10.42.6.0/24"' in as_yaml.out


def test_one_peer_is_shown_in_full_and_one_that_is_not_there_is_status_1(
    tulle: Any, short_dir: Path, serving: Any, make_status: MakeStatus
) -> None:
    """Which peers fit the name is tulled's to say."""
    with serving(short_dir, {"status": make_status(peers=[peer(6)])}):
        there = tulle("status", f"--run-dir={short_dir}", "--peer", "n6")
    with serving(short_dir, {"status": make_status(peer_count=3)}):
        missing = tulle("status", f"--run-dir={short_dir}", "--peer", "n9")
    assert there.status == 0
    assert "lease     10.42.6.0-24" in there.out
    assert missing.status == 1
    assert "no peer of n1 is called 'n9'; `tulle status --all` lists all 3" in missing.out


def test_only_the_problems_where_they_are_asked_for(
    tulle: Any, short_dir: Path, serving: Any, make_status: MakeStatus
) -> None:
    wrong = make_status(peers=[peer(6)], problems=[Problem("c", "n6", "no answer; look at its tulled")])
    with serving(short_dir, {"status": wrong}):
        said = tulle("status", f"--run-dir={short_dir}", "--problems")
    assert "n6: no answer; look at its tulled" in said.out
    assert "192.0.2.6" not in said.out
    with serving(short_dir, {"status": make_status()}):
        assert "none that tulled knows of" in tulle("status", f"--run-dir={short_dir}", "--problems").out


def test_a_tulled_of_another_time_and_one_that_refuses_are_told_in_words(
    tulle: Any, short_dir: Path, serving: Any
) -> None:
    with serving(short_dir, {"status": {"node": 7}}):
        said = tulle("status", f"--run-dir={short_dir}")
    assert said.status == 1
    assert "it is of another version: restart tulled" in said.err
    with serving(short_dir, {"status": HttpError(403, "only root may speak to tulled")}):
        said = tulle("status", f"--run-dir={short_dir}")
    assert (said.status, said.err) == (1, "tulle: only root may speak to tulled\n")


def test_it_is_watched_until_interrupted_also_before_tulled_runs(
    short_dir: Path, serving: Any, make_status: MakeStatus
) -> None:
    words = [sys.executable, "-u", "-m", "tulle.cli.main", "status", "--watch", f"--run-dir={short_dir}"]
    watching = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    try:
        assert "tulled does not answer" in watching.stdout.readline()
        with serving(short_dir, {"status": make_status()}):
            lines = iter(watching.stdout.readline, "")
            assert any("n1: ready" in line for line in lines)
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=10)
    finally:
        watching.kill()
        watching.communicate()
    assert watching.returncode == 0


def test_a_long_answer_on_a_terminal_goes_through_the_pager(
    short_dir: Path, serving: Any, make_status: MakeStatus
) -> None:
    """5,000 peers, `--all`: the pager is given every line, and what it shows is what the terminal gets."""
    import pty

    answer = make_status(peers=[peer(number) for number in range(5000)])
    leader, follower = pty.openpty()
    words = [sys.executable, "-m", "tulle.cli.main", "status", "--all", f"--run-dir={short_dir}"]
    with serving(short_dir, {"status": answer}):
        done = subprocess.Popen(
            words, stdin=follower, stdout=follower, env=dict(os.environ) | {"PAGER": "wc -l", "TERM": "xterm"}
        )
        os.close(follower)
        shown = read_until_closed(leader)
        assert done.wait(30) == 0
    assert int(shown.split()[-1]) >= 5000


def read_until_closed(leader: int) -> str:
    text, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            text += os.read(leader, 65536)
        except OSError:  # the other side is closed (EIO, pty(7))
            break
    os.close(leader)
    return text.decode()


def test_it_imports_neither_plugins_nor_anything_heavy(
    imported: Callable[..., set[str]], tmp_path: Path
) -> None:
    found = imported("status", f"--run-dir={tmp_path}")
    assert "tulle.cli.status" in found
    assert found & HEAVY == set()


def test_it_costs_little(
    cpu_s: Callable[..., float], short_dir: Path, serving: Any, make_status: MakeStatus
) -> None:
    with serving(short_dir, {"status": make_status(peers=[peer(number) for number in range(100)])}):
        assert cpu_s("status", f"--run-dir={short_dir}") < 2 * STATUS_CPU_S
