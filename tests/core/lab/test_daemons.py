"""The tulleds of a lab, started and killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tulle.lab import Lab, LabError
from tulle.lab.daemons import is_forwarder, is_ready, is_tulled
from tulle.lab.registry import Registry, start_time

READY: dict[str, Any] = {
    "ready": True,
    "peers": [{}, {}],
    "dataplane": {"generation_applied": 3, "generation_wanted": 3},
}


@pytest.mark.parametrize(
    ("change", "others", "expected"),
    [
        ({}, 2, True),
        ({}, 3, False),
        ({"ready": False}, 2, False),
        ({"dataplane": {"generation_applied": 2, "generation_wanted": 3}}, 2, False),
        ({"dataplane": {}}, 2, True),
    ],
)
def test_a_node_is_ready_when_it_carries_packets_to_all_others(
    change: dict[str, Any], others: int, expected: bool
) -> None:
    assert is_ready(READY | change, others) is expected


def test_tulled_and_its_forwarder_are_told_apart() -> None:
    tulled = ["python", "-m", "tulle.node.main", "--node-name", "n1"]
    forwarder = ["python", "-m", "tulle.forward.main", "tulle-forwarder"]
    assert (is_tulled(tulled), is_forwarder(tulled)) == (True, False)
    assert (is_tulled(forwarder), is_forwarder(forwarder)) == (False, True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    own = Registry(tmp_path_factory.mktemp("registry") / "labs")
    with Lab(nodes=2, pods=1, registry=own) as lab:
        yield lab


@pytest.mark.lab
def test_each_node_has_a_tulled_and_a_forwarder_of_its_own(cluster: Lab) -> None:
    pids = {
        find(node) for node in cluster.plan.node_names for find in (cluster.tulled_pid, cluster.forwarder_pid)
    }
    assert len(pids) == 4
    assert None not in pids


@pytest.mark.lab
def test_the_status_and_the_log_are_those_of_the_node(cluster: Lab) -> None:
    for node, other in (("n1", "n2"), ("n2", "n1")):
        status = cluster.status(node)
        assert status["node"] == node
        assert [peer["node"] for peer in status["peers"]] == [other]
        assert cluster.logs(node)


@pytest.mark.lab
def test_a_killed_tulled_is_gone_when_the_call_returns_and_comes_back_when_it_is_started(
    cluster: Lab,
) -> None:
    before, forwarder = cluster.tulled_pid("n1"), cluster.forwarder_pid("n1")
    assert before is not None
    cluster.kill_tulled("n1")
    assert start_time(before) is None
    assert cluster.tulled_pid("n1") is None
    with pytest.raises(LabError, match="tulled of n1 does not run"):
        cluster.kill_tulled("n1")
    with pytest.raises(LabError, match="tulled of n1 does not run"):
        cluster.status("n1")
    cluster.start_tulled("n1")
    cluster.wait_ready()
    assert cluster.tulled_pid("n1") not in (None, before)
    assert cluster.forwarder_pid("n1") == forwarder
    with pytest.raises(LabError, match="tulled of n1 runs already"):
        cluster.start_tulled("n1")


@pytest.mark.lab
def test_a_signal_that_does_not_end_is_not_waited_for(cluster: Lab) -> None:
    pid = cluster.tulled_pid("n2")
    cluster.kill_tulled("n2", signal.SIGSTOP)
    try:
        assert cluster.tulled_pid("n2") == pid
    finally:
        cluster.kill_tulled("n2", signal.SIGCONT)
    cluster.wait_ready()


@pytest.mark.lab
def test_a_killed_forwarder_is_gone_when_the_call_returns(cluster: Lab) -> None:
    before = cluster.forwarder_pid("n2")
    assert before is not None
    cluster.kill_forwarder("n2")
    assert not os.path.exists(f"/proc/{before}") or start_time(before) is None
    cluster.wait_ready()
    assert cluster.forwarder_pid("n2") not in (None, before)
