"""`tulle lab demo`: what `make run` shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tulle.lab.init import LAB_DIR
from tulle.lab.registry import Registry

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-demo")]

TULLE = (sys.executable, "-m", "tulle.cli.main")
NAMESPACES = ("net", "mnt", "pid", "uts", "ipc", "user")


@contextmanager
def demo(tmp_path: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], Registry]]:
    """`tulle lab demo` as a user types it, with a list of labs of its own."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    with subprocess.Popen(
        [*TULLE, "lab", "demo", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process, Registry(tmp_path / "tulle-lab")
        finally:
            process.kill()


def test_the_demo_ends_well_and_says_what_to_try_next(tmp_path: Path) -> None:
    with demo(tmp_path) as (process, registry):
        output, _ = process.communicate(timeout=110)
        assert process.returncode == 0, output
        assert "20000 sent, 20000 received, 0 lost" in output
        assert "unchanged" in output
        assert "Try next" in output
        assert registry.living() == {}


def begun_s(pid: str) -> float:
    """When a process began, by CLOCK_BOOTTIME. Raises OSError. (proc(5): field 22 of stat, in clock ticks)"""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[22 - 3]) / os.sysconf("SC_CLK_TCK")


def namespaces_in_use(until_s: float) -> dict[str, set[int]]:
    """The namespaces of all processes of this machine that had begun by then. (The kernel gives a namespace's number to
    another one as soon as it is gone: a lab that is brought up beside us may have it.)"""
    found: dict[str, set[int]] = {kind: set() for kind in NAMESPACES}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for kind in NAMESPACES:
            try:
                if begun_s(pid) <= until_s:
                    found[kind].add(os.stat(f"/proc/{pid}/ns/{kind}").st_ino)
            except OSError:
                continue
    return found


def shared(inside: dict[str, int], in_use: dict[str, set[int]]) -> list[str]:
    return [kind for kind in NAMESPACES if inside[kind] in in_use[kind]]


def namespaces_of(pid: int) -> dict[str, int]:
    return {kind: os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in NAMESPACES}


def processes_in(namespace: int) -> list[int]:
    """Those whose PID namespace this is."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}/ns/pid").st_ino == namespace:
                found.append(int(pid))
        except OSError:
            continue
    return found


def test_killing_a_labs_first_process_in_the_middle_of_it_leaves_nothing(
    tmp_path: Path, eventually: Callable[..., Any], end_process: Callable[[int], bool]
) -> None:
    with demo(tmp_path) as (process, registry):
        assert process.stdout is not None
        for line in process.stdout:
            if "pings every other pod" in line:  # the cluster is up and packets pass
                break
        ((_, first),) = registry.living().items()
        inside = namespaces_of(first.pid)
        residents = processes_in(inside["pid"])
        assert len(residents) >= 7  # init, three tulleds, three forwarders
        assert inside["net"] in namespaces_in_use(time.clock_gettime(time.CLOCK_BOOTTIME))["net"]
        os.kill(first.pid, signal.SIGKILL)
        killed_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        eventually(lambda: all(map(end_process, residents)))
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1, output
    # The demo itself has ended too: whatever it had started in there is gone with it.
    eventually(lambda: not shared(inside, namespaces_in_use(killed_s)))
    assert LAB_DIR not in Path("/proc/self/mountinfo").read_text()
    assert {"switch", "to-n1", "tulle0"} & set(os.listdir("/sys/class/net")) == set()
    assert registry.living() == {}


@pytest.mark.etcd
def test_a_demo_in_both_families_with_etcd_ends_well(tmp_path: Path, etcd_here: Path) -> None:
    with demo(tmp_path, "--store", "etcd", "--family", "dual") as (process, _):
        output, _ = process.communicate(timeout=110)
        assert process.returncode == 0, output
        for family in (4, 6):
            assert f"30 of 30 pairs answer 3 of 3 (IPv{family})" in output
