"""The forwarders of a running cluster have no rights, and the cluster works.

What they cannot do is tried in tests/core/worker/test_sandbox.py; here it is read of those that tulled started.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.worker import landlock

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-sandbox")]

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, pods=1)


def threads(pid: int) -> Iterator[dict[str, str]]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        yield {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def test_every_thread_of_every_forwarder_is_filtered_and_has_no_rights(lab: Lab) -> None:
    for node in lab.plan.node_names:
        pid = lab.forwarder_pid(node)
        assert pid is not None
        seen = list(threads(pid))
        assert seen
        for status in seen:
            assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
            assert {int(status[name], 16) for name in CAPABILITY_SETS} == {0}
    assert set(lab.ping_all(3).values()) == {3}


def test_what_holds_is_in_the_status(lab: Lab, hands: Callable[[Lab], Any]) -> None:
    notes = lab.status("n1")["dataplane"]["engine_notes"]
    assert "no capabilities, no new privileges" in notes
    assert any(re.fullmatch(r"\d+ system calls, for all threads", note) for note in notes)
    if landlock.abi():
        assert f"no files (Landlock {landlock.abi()})" in notes
    shown = hands(lab).tulle("n1", "status").stdout
    assert [note for note in notes if note not in shown] == []


def test_a_forwarder_is_given_no_environment_and_says_nothing_where_all_is_well(lab: Lab) -> None:
    pid = lab.forwarder_pid("n1")
    assert Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") == [b"LANG=C.UTF-8", b""]
    assert lab.run("n1", ["cat", "/run/tulle/forwarder.log"]).stdout == ""


def test_a_forwarder_leaves_no_core(lab: Lab) -> None:
    limits = Path(f"/proc/{lab.forwarder_pid('n1')}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), limits


def test_the_control_socket_is_for_root_alone(lab: Lab) -> None:
    shown = lab.run("n1", ["stat", "-c", "%a %U", "/run/tulle/forwarder.sock"]).stdout.split()
    assert shown == ["600", "root"]
