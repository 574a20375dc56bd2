"""Running one program inside."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tulle.lab import Lab, LabError
from tulle.lab.init import LAB_DIR

pytestmark = pytest.mark.lab

ENTER_S = 0.1


def eventually(check: Callable[[], bool], timeout: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def running(lab: Lab, mark: str) -> bool:
    return any(mark in resident.argv for resident in lab.residents())


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_the_exit_status_is_the_programs(bare: Lab, script: str, status: int) -> None:
    assert bare.run("n1", ["sh", "-c", script], check=False).returncode == status


def test_a_program_that_is_not_there_or_cannot_be_executed_is_reported_as_shells_do(bare: Lab) -> None:
    missing = bare.run("n1", ["no-such-program"], check=False)
    assert (missing.returncode, missing.stderr) == (
        127,
        "tulle lab: cannot run 'no-such-program' there: No such file or directory\n",
    )
    assert bare.run("n1", ["/etc/passwd"], check=False).returncode == 126


def test_input_and_output_pass_through_unchanged(bare: Lab) -> None:
    data = bytes(range(256)) * 4096
    process = bare.popen("n1/p1", ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.communicate(data)[0] == data


@pytest.mark.parametrize("place", ["switch", "n1", "n2", "n2/p1"])
def test_the_host_name_says_where_one_is(bare: Lab, place: str) -> None:
    assert bare.run(place, ["hostname"]).stdout.strip() == place.split("/")[0]


def test_administration_tools_are_in_the_path(bare: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    path = bare.run("n1", ["printenv", "PATH"]).stdout.strip().split(":")
    assert path[:2] == ["/usr/bin", "/bin"]
    assert "/usr/sbin" in path
    assert str(Path(sys.executable).parent) in path


def test_a_signal_to_us_reaches_the_program(bare: Lab) -> None:
    script = "trap 'echo asked to end; exit 5' TERM; echo ready; while :; do sleep 0.02; done"
    process = bare.popen("n1", ["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == "asked to end\n"
    assert process.returncode == 5


def test_killing_us_kills_the_program(bare: Lab) -> None:
    process = bare.popen("n1", ["sleep", "61.25"])
    assert eventually(lambda: running(bare, "61.25"))
    process.kill()
    process.wait()
    assert eventually(lambda: not running(bare, "61.25"))


def test_a_detached_program_is_the_labs_own_and_writes_its_log(bare: Lab) -> None:
    log = f"{LAB_DIR}/logs/detached.log"
    bare.detached("n1", ["sh", "-c", "echo out; echo err >&2; exec sleep 62.25"], log)
    found = [resident for resident in bare.residents() if "62.25" in resident.argv]
    assert [str(resident.place.label) for resident in found] == ["n1"]
    assert sorted(bare.read_file("n1", log).split()) == ["err", "out"]
    assert os.getsid(found[0].pid) != os.getsid(0)
    os.kill(found[0].pid, signal.SIGKILL)
    assert eventually(lambda: not running(bare, "62.25"))


def test_a_detached_program_that_cannot_be_started_is_an_error(bare: Lab) -> None:
    with pytest.raises(LabError, match=r"'no-such-program' cannot be started in n1: .*No such file"):
        bare.detached("n1", ["no-such-program"], f"{LAB_DIR}/logs/missing.log")


def test_entering_takes_less_than_a_tenth_of_a_second(bare: Lab) -> None:
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        bare.run("n1/p1", ["true"])
        taken.append(time.perf_counter() - start)
    assert statistics.median(taken) < ENTER_S


def test_a_lab_that_has_ended_says_so(bare: Lab) -> None:
    command = bare.command("n1", ["true"])
    dead = [word.replace(f"/proc/{bare.init.pid}/", "/proc/4194305/") for word in command]  # above any pid
    done = subprocess.run(dead, capture_output=True, text=True)
    assert done.returncode == 126
    assert "the lab has ended" in done.stderr


def test_the_settings_of_this_machines_tulled_do_not_come_in(
    bare: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TULLED_STORE", "etcd")
    monkeypatch.setenv("FLANNELD_IFACE", "wlan7")
    monkeypatch.setenv("KEPT", "yes")
    said = bare.run("n1", ["env"]).stdout.splitlines()
    assert "TULLED_CONFIG_FILE=/dev/null" in said
    assert "KEPT=yes" in said
    assert not [line for line in said if "TULLED_STORE" in line or "FLANNELD_" in line]
