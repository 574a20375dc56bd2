"""alloc between real nodes: each has its subnet and is ready, and nothing of ours is in the way of other routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab
from tulle.node.upkeep import LOOK_S

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-alloc")]

MTU = 1500
SUBNET_FILE = "/run/flannel/subnet.env"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, pods=1, family="dual", backend="alloc")


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    lab.wait_ready()
    return hands(lab)


def test_a_node_is_ready_with_a_lease_and_the_underlays_mtu(lab: Lab, node: Any) -> None:
    status = lab.status("n1")
    assert (status["ready"], status["problems"]) == (True, [])
    assert status["backend"] == {"type": "alloc", "mtu": MTU, "usable_peers": 1}
    subnets = [f"{gateway.rpartition('/')[0]}" for gateway in lab.nets["n1"].gateways]
    text = lab.read_file("n1", SUBNET_FILE)
    assert f"FLANNEL_MTU={MTU}\n" in text
    assert all(f"={subnet}/" in text for subnet in subnets)


def test_there_is_no_device_no_route_and_no_forwarder(lab: Lab, node: Any) -> None:
    assert set(node.links("n1")) == {"lo", "eth0", "cni0", "to-p1"}
    assert node.routes("n1", RTPROT_TULLE) == []
    assert lab.forwarder_pid("n1") is None
    lab.run("n1", ["sleep", str(3 * LOOK_S)])  # that there is none is no fault that something tries to mend
    assert "not-mended" not in lab.logs("n1")


def test_pods_talk_as_soon_as_somebody_makes_the_routes(lab: Lab, node: Any) -> None:
    assert lab.ping("n1/p1", "n2/p1") == 0
    for here, there in (("n1", "n2"), ("n2", "n1")):
        for family, subnet in zip((4, 6), lab.status(there)["subnets"], strict=True):
            lab.run(here, ["ip", f"-{family}", "route", "add", subnet, "via", lab.address(there, family)])
    assert lab.ping("n1/p1", "n2/p1", 3) == lab.ping("n1/p1", "n2/p1", 3, family=6) == 3


def test_down_takes_the_file_away_and_leaves_others_routes(lab: Lab, node: Any) -> None:
    foreign = "198.51.100.0/24"
    lab.run("n2", ["ip", "route", "add", foreign, "via", lab.address("n1")])
    node.tulle("n2", "down")
    assert not node.exists("n2", SUBNET_FILE)
    assert foreign in {one["destination"] for one in node.routes("n2")}
    lab.run("n2", ["ip", "route", "del", foreign])
    lab.start_tulled("n2")
    lab.wait_ready()
