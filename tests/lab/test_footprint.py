"""What a node costs: memory, and the time until it is ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tulle.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.etcd, pytest.mark.xdist_group("lab-footprint")]

FORWARDER_MB, TULLED_MB = 60, 90
READY_S = 1.0
"""The aim for a start with an existing lease on a quiet machine."""
PATIENCE = 10
"""How many times as long a test waits: it shares its machine."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab], etcd_here: Path) -> Lab:
    return make_lab(nodes=2, pods=1, store="etcd", family="dual")


def resident_mb(pid: int | None) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def test_forwarder_and_tulled_stay_small_also_after_traffic(
    lab: Lab, say: Callable[[str, object], None]
) -> None:
    lab.wait_ready()
    assert lab.transfer("n1/p1", "n2/p1", 16 << 20, family=4).unchanged
    assert lab.transfer("n1/p1", "n2/p1", 16 << 20, family=6).unchanged
    for node in lab.plan.node_names:
        forwarder, tulled = resident_mb(lab.forwarder_pid(node)), resident_mb(lab.tulled_pid(node))
        say(f"{node}-resident-mb", f"forwarder {forwarder:.0f}, tulled {tulled:.0f}")
        assert forwarder < FORWARDER_MB
        assert tulled < TULLED_MB


def test_a_tulled_with_a_lease_is_ready_soon(lab: Lab, say: Callable[[str, object], None]) -> None:
    lab.wait_ready()
    lab.kill_tulled("n1")
    started = time.monotonic()
    lab.start_tulled("n1")
    lab.wait_ready(PATIENCE * READY_S)
    say("ready-after-s", round(time.monotonic() - started, 2))


def test_a_tulled_with_a_lease_and_a_new_forwarder_is_ready_soon(
    lab: Lab, say: Callable[[str, object], None]
) -> None:
    lab.wait_ready()
    lab.kill_tulled("n1")
    lab.kill_forwarder("n1")
    started = time.monotonic()
    lab.start_tulled("n1")
    lab.wait_ready(PATIENCE * READY_S)
    say("ready-after-s", round(time.monotonic() - started, 2))


def test_the_forwarder_has_no_rights(lab: Lab) -> None:
    """No capability in any set, no new privileges, no core dumps; its user is not root where there is another."""
    fields = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{lab.forwarder_pid('n1')}/status").read_text().splitlines()
    )
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"] == "1"
    assert fields["Groups"].split() == [] or fields["Uid"].split()[0] != "0"
