"""Nodes that stop and start, in any order and at once, keep their subnets; one that lost its memory is told so."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tulle.lab import Lab, LabError
from tulle.lab.registry import Registry

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-restarts")]

NODES = 4
ALIVE_S = 30.0
"""How long a name is held after its holder's last sign of life."""


@pytest.fixture(scope="module", params=["etcd", "sqlite"])
def lab(request: pytest.FixtureRequest, make_lab: Callable[..., Lab], etcd_here: object) -> Lab:
    return make_lab(nodes=NODES, pods=1, store=request.param)


def subnets(lab: Lab) -> dict[str, list[str]]:
    return {node: lab.status(node)["subnets"] for node in lab.plan.node_names}


def assert_all_reach_each_other(lab: Lab) -> None:
    lab.wait_ready()
    assert {pair: count for pair, count in lab.ping_all(2).items() if count != 2} == {}


@pytest.mark.parametrize("seed", range(2))
def test_nodes_that_stop_and_start_in_any_order_keep_their_subnets(lab: Lab, seed: int) -> None:
    before, chance = subnets(lab), random.Random(seed)
    for _ in range(2):
        down = chance.sample(lab.plan.node_names, 2)
        for node in down:
            lab.kill_tulled(node, chance.choice([signal.SIGTERM, signal.SIGKILL]))
            if chance.random() < 0.5:
                lab.kill_forwarder(node)
        for node in chance.sample(down, len(down)):
            lab.start_tulled(node)
        lab.wait_ready()
        assert subnets(lab) == before
    assert_all_reach_each_other(lab)


def test_all_nodes_at_once_keep_their_subnets(lab: Lab) -> None:
    """As after a power cut: nobody is there to tell anybody anything."""
    before = subnets(lab)
    for node in lab.plan.node_names:
        lab.kill_tulled(node)
        lab.kill_forwarder(node)
    for node in lab.plan.node_names:
        lab.start_tulled(node)
    lab.wait_ready()
    assert subnets(lab) == before
    assert_all_reach_each_other(lab)


def test_a_node_that_lost_its_state_waits_for_its_former_self_and_keeps_its_subnet(
    registry: Registry, hands: Callable[[Lab], Any], say: Callable[[str, object], None]
) -> None:
    """A machine that was installed anew under its old name. The old one could still be alive: for 30 s nobody knows."""
    with Lab(nodes=2, pods=1, registry=registry) as lab:
        before = subnets(lab)
        lab.kill_tulled("n1")
        lab.kill_forwarder("n1")
        lab.run("n1", ["sh", "-c", "rm -rf /var/lib/tulle/* /run/tulle /run/flannel"])
        started = time.monotonic()
        lab.start_tulled("n1")
        time.sleep(3.0)
        status = lab.status("n1")
        assert not status["ready"]
        assert status["not_ready_because"] == ["getting a subnet"]
        (said,) = [line for line in lab.logs("n1").splitlines() if "name-held" in line]
        assert "waiting" in said
        lab.wait_ready(ALIVE_S + 30.0)
        waited = time.monotonic() - started
        say("waited-s", round(waited, 1))
        assert waited > ALIVE_S / 2
        assert subnets(lab) == before
        assert lab.ping("n2/p1", "n1/p1", 3) == 3


def test_a_second_node_under_a_name_that_is_alive_says_so_and_ends(
    registry: Registry, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    """n2 takes the name of n1, which is at work: n2 must not touch n1's subnet, and say whose name it is."""
    with Lab(nodes=2, pods=1, registry=registry) as lab:
        before = subnets(lab)
        lab.kill_tulled("n2")
        lab.start_tulled("n2", ["--node-name", "n1"])
        eventually(lambda: lab.tulled_pid("n2") is None)
        last = lab.logs("n2").splitlines()[-1]
        assert "'n1'" in last
        assert "--node-name" in last
        assert lab.status("n1")["subnets"] == before["n1"]
        assert lab.ping("n1/p1", "n2/p1", 3) == 3  # the forwarders never stopped
        with pytest.raises(LabError):
            lab.status("n2")
        store = lab.plan.store_args()
        leases = json.loads(hands(lab).tulle("n1", "leases", "-o", "json", *store).stdout)
        assert {one["node"]: one["subnets"] for one in leases} == before
