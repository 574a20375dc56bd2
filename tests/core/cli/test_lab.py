"""`tulle lab`, as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tulle.lab.registry import Registry, start_time

pytestmark = pytest.mark.lab

Tulle = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def tulle(tmp_path: Path) -> Tulle:
    """Runs `tulle lab ...` with a registry of this test alone."""

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tulle.cli.main", "lab", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        )

    return run


def test_a_lab_goes_up_is_listed_and_entered_and_goes_down(tulle: Tulle, tmp_path: Path) -> None:
    up = tulle("up", "--nodes", "2", "--pods", "1", "--name", "one")
    assert (up.returncode, up.stderr) == (0, "")
    assert "tulle lab down --name one" in up.stdout
    try:
        (row,) = json.loads(tulle("list", "-o", "json").stdout)
        assert {key: row[key] for key in ("name", "nodes", "pods", "family", "store")} == {
            "name": "one",
            "nodes": 2,
            "pods": 1,
            "family": "4",
            "store": "sqlite",
        }
        assert "one" in tulle("list").stdout
        inside = tulle(
            "exec", "--name", "one", "n2/p1", "--", "sh", "-c", "hostname; cat; exit 7", stdin="given\n"
        )
        assert (inside.returncode, inside.stdout) == (7, "n2\ngiven\n")
        status = tulle("exec", "--name", "one", "n1", "tulle", "status", "-o", "json")
        assert json.loads(status.stdout)["node"] == "n1"
        assert json.loads(status.stdout)["ready"] is True
    finally:
        down = tulle("down", "--name", "one")
    assert (down.returncode, down.stdout) == (0, "The lab 'one' is down.\n")
    assert start_time(row["pid"]) is None
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_done_is_one_message_and_status_1(tulle: Tulle) -> None:
    for words, message in (
        (("down",), "No lab 'default' runs. Start one with: tulle lab up --name default"),
        (("exec", "n1", "--", "true"), "No lab 'default' runs."),
        (("up", "--nodes", "0"), "give another --nodes"),
        (("up", "--name", "No Name", "--backend", "none"), "cannot be a lab's name"),
        (("demo", "--backend", "none"), "give another --backend"),
    ):
        done = tulle(*words)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("word", ["up", "demo"])
def test_a_backend_that_tulled_would_refuse_is_refused_before_anything_is_built(
    tulle: Tulle, tmp_path: Path, word: str
) -> None:
    for words, message in (
        (
            ("--backend", "carrier-pigeon"),
            "'carrier-pigeon' is no backend that is installed here; give one of ",
        ),
        (("--backend-option", "Port=many"), 'Backend.Port: "many" does not fit'),
        (("--backend-option", "Port"), "'Port' is not KEY=VALUE"),
    ):
        done = tulle(word, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert os.listdir(tmp_path) == []


def test_a_labs_backend_has_the_options_that_were_given(tulle: Tulle) -> None:
    options = ("--backend-option", "Port=9999", "--backend-option", "Mystery=x")
    up = tulle("up", "--nodes", "1", "--pods", "0", "--name", "two", "--backend", "udp", *options)
    try:
        assert (up.returncode, up.stderr) == (0, "warning: Backend.Mystery: unknown here, and kept\n")
        shown = tulle("exec", "--name", "two", "n1", "tulle", "config", "show")
        assert json.loads(shown.stdout)["Backend"] == {"Type": "udp", "Port": 9999, "Mystery": "x"}
    finally:
        assert tulle("down", "--name", "two").returncode == 0


def test_a_command_is_needed(tulle: Tulle) -> None:
    done = tulle("exec", "n1", "--")
    assert done.returncode == 2
    assert "tulle lab exec n1 -- CMD" in done.stderr


def test_no_labs_are_an_empty_list_and_a_hint(tulle: Tulle, tmp_path: Path) -> None:
    assert json.loads(tulle("list", "-o", "json").stdout) == []
    assert "tulle lab up" in tulle("list").stdout
    assert os.listdir(tmp_path) == []


def test_a_lab_that_is_half_built_is_listed_and_can_be_taken_down(tulle: Tulle, tmp_path: Path) -> None:
    from tulle.lab.launch import launch

    launched = launch("half")
    Registry(tmp_path / "tulle-lab").add("half", launched.process)
    assert json.loads(tulle("list", "-o", "json").stdout)[0]["nodes"] == "-"
    entered = tulle("exec", "--name", "half", "n1", "true")
    assert "not whole" in entered.stderr
    assert tulle("down", "--name", "half").returncode == 0
    assert not launched.process.alive()
    launched.close()
