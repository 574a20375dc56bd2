"""Real tulleds, each in a namespace of its own: fifty that start at once, and a config that changes under them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_interface, ip_network
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.plan import SWITCH
from tulle.lab.registry import Registry
from tulle.lab.stores import TULLE

pytestmark = pytest.mark.lab

NODES = 50
READY_S = 60.0
"""For all fifty, on two cores."""
LONG_S = 30.0


class LargeLab(Lab):
    """One that gives its nodes as long as they may take all together."""

    def wait_subnets(self, timeout: float = 3 * READY_S) -> Any:
        return super().wait_subnets(timeout)

    def wait_ready(self, timeout: float = 3 * READY_S) -> None:
        super().wait_ready(max(timeout, 3 * READY_S))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.mark.soak
@pytest.mark.etcd
@pytest.mark.timeout(600)
def test_fifty_tulleds_that_start_at_once_are_all_ready_within_a_minute(
    etcd_here: None, registry: Registry
) -> None:
    began = 0.0

    def said(step: str) -> None:
        nonlocal began
        began = began or (time.monotonic() if step == "a tulled on each node" else 0.0)

    lab = LargeLab(nodes=NODES, pods=0, store="etcd", registry=registry)
    try:
        lab.up(said)
        took_s = time.monotonic() - began
        subnets = [ip_interface(lab.nets[node].gateways[0]).network for node in lab.plan.node_names]
        assert all(not one.overlaps(other) for one, other in combinations(subnets, 2))
        listed = json.loads(lab.run(SWITCH, [*TULLE, "leases", "-o", "json", *lab.plan.store_args()]).stdout)
        assert sorted(one["node"] for one in listed) == sorted(lab.plan.node_names)
        assert all(one["alive"] for one in listed)
        print(f"{NODES} tulleds were ready after {took_s:.1f} s")
        assert took_s <= READY_S
    finally:
        lab.down()


@pytest.fixture
def lab(registry: Registry) -> Iterator[Lab]:
    with Lab(nodes=2, pods=1, registry=registry) as made:
        yield made


def configure(lab: Lab, **changes: Any) -> None:
    text = json.dumps(lab.plan.network_config() | changes)
    lab.run(SWITCH, [*TULLE, "config", "set", "-", *lab.plan.store_args()], input=text)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_a_tulled_that_waits_in_a_full_network_goes_on_when_it_is_widened(lab: Lab) -> None:
    lab.kill_tulled("n1")
    lab.run("n1", [*TULLE, "down", "--release", *lab.plan.store_args()])
    lab.run("n2", [*TULLE, "down", "--release", *lab.plan.store_args()])
    configure(lab, Network="10.77.0.0/24", SubnetLen=26, SubnetMin="10.77.0.192")  # that one and no other
    lab.start_tulled("n2")
    until(lambda: "ready" in lab.logs("n2").rpartition("starting")[2], "n2 takes no subnet")
    lab.start_tulled("n1")
    until(lambda: "network-full" in lab.logs("n1"), "n1 does not say that all subnets are taken")
    configure(lab, Network="10.77.0.0/16", SubnetLen=26)
    until(lambda: "config-taken-anew" in lab.logs("n1"), "n1 does not see the new config")
    until(lambda: lab.status("n1")["ready"], "n1 does not go on")


def test_tulleds_say_that_their_config_changed_keep_their_pods_talking_and_take_the_new_one_at_a_restart(
    lab: Lab,
) -> None:
    """A network of another place, and so smaller that no subnet of before is in it."""
    nets = dict(lab.nets)
    configure(lab, Network="10.77.0.0/24", SubnetLen=28)
    for node in ("n1", "n2"):
        until(lambda node=node: "config-changed" in lab.logs(node), f"{node} says nothing")  # type: ignore[misc]
        line = next(line for line in lab.logs(node).splitlines() if "config-changed" in line)
        assert "10.77.0.0/24 with subnets 10.77.0.16/28 to 10.77.0.240/28 instead of 10.42.0.0/16" in line
        assert "nothing changes on this node until tulled is started again" in line
    assert lab.wait_subnets() == nets
    assert all(answers == 3 for answers in lab.ping_all(3).values())
    lab.kill_tulled("n1", 15)
    lab.start_tulled("n1")
    new = ip_network("10.77.0.0/24")
    until(
        lambda: ip_interface(lab.wait_subnets()["n1"].gateways[0]).ip in new,
        "n1 does not take the new network",
    )
    assert lab.wait_subnets()["n2"] == nets["n2"]
    assert "cannot-go-on" not in lab.logs("n2")
