"""`tulle down` takes away all that is tulle's on a node and nothing else, whatever state its tulled is in."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-down")]

DEVICE = "tulle0"
RUN_DIR, STATE_DIR, SUBNET_FILE = "/run/tulle", "/var/lib/tulle", "/run/flannel/subnet.env"
NOTHING = "there was nothing of tulle's here"

FOREIGN_ROUTE = "10.42.200.0/24"
"""Inside the cluster network, set by somebody else."""
FOREIGN_LINK = "not-ours"

FORWARDING = {
    4: "/proc/sys/net/ipv4/ip_forward",
    6: "/proc/sys/net/ipv6/conf/all/forwarding",
}
ACCEPT_RA = "/proc/sys/net/ipv6/conf/eth0/accept_ra"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab], hands: Callable[[Lab], Any]) -> Lab:
    made = make_lab(nodes=2, pods=1, family="dual")
    hands(made).kernel(
        "n1",
        ("link", "add", {"ifname": FOREIGN_LINK, "kind": "bridge"}),
        ("route", "add", {"dst": FOREIGN_ROUTE, "gateway": "192.0.2.254", "link": "eth0"}),
    )
    return made


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    """n1 at work: what an earlier test took down is started again."""
    if lab.tulled_pid("n1") is None:
        lab.start_tulled("n1")
    lab.wait_ready()
    return hands(lab)


def run(lab: Lab) -> None:
    """It runs."""


def terminated(lab: Lab) -> None:
    lab.kill_tulled("n1", signal.SIGTERM)


def killed(lab: Lab) -> None:
    lab.kill_tulled("n1")


def killed_with_its_forwarder(lab: Lab) -> None:
    lab.kill_tulled("n1")
    lab.kill_forwarder("n1")


def stopped(lab: Lab) -> None:
    """It holds its lock and its socket and does not answer."""
    lab.kill_tulled("n1", signal.SIGSTOP)


def forwarder_stopped(lab: Lab) -> None:
    pid = lab.forwarder_pid("n1")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)


CASES = [run, terminated, killed, killed_with_its_forwarder, stopped, forwarder_stopped]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_down_leaves_nothing_of_ours_and_the_lease_with_the_state(
    lab: Lab, node: Any, case: Callable[[Lab], None]
) -> None:
    identity, subnets = node.lab.read_file("n1", f"{STATE_DIR}/id"), lab.status("n1")["subnets"]
    assert lab.read_file("n1", FORWARDING[4]) == lab.read_file("n1", FORWARDING[6]) == "1\n"
    case(lab)
    done = node.tulle("n1", "down")
    assert_gone(lab, node)
    assert NOTHING not in done.stdout
    assert lab.read_file("n1", f"{STATE_DIR}/id") == identity
    leases = leases_by_node(node)
    assert leases["n1"]["subnets"] == subnets

    again = node.tulle("n1", "down")
    assert again.stdout.startswith(NOTHING), again.stdout

    lab.start_tulled("n1")
    lab.wait_ready()
    assert lab.status("n1")["subnets"] == subnets
    # From the node itself: after a release in another test it can have another subnet than its pods.
    assert lab.ping("n1", "n2/p1", 3) == 3


def assert_gone(lab: Lab, node: Any) -> None:
    """Nothing of tulle's is left on n1, all that is not ours is there, and the sysctls are what they were."""
    links, routes = node.links("n1"), node.routes("n1")
    assert DEVICE not in links
    assert FOREIGN_LINK in links
    assert [one for one in routes if one["protocol"] == RTPROT_TULLE] == []
    assert FOREIGN_ROUTE in [one["destination"] for one in routes]
    assert (lab.tulled_pid("n1"), lab.forwarder_pid("n1")) == (None, None)
    assert not node.exists("n1", RUN_DIR)
    assert not node.exists("n1", SUBNET_FILE)
    assert lab.read_file("n1", FORWARDING[4]) == lab.read_file("n1", FORWARDING[6]) == "0\n"
    assert lab.read_file("n1", ACCEPT_RA) == "1\n"


def leases_by_node(node: Any) -> dict[str, Any]:
    store = node.lab.plan.store_args()
    found = json.loads(node.tulle("n2", "leases", "-o", "json", *store).stdout)
    return {one["node"]: one for one in found}


@pytest.mark.parametrize("case", [run, terminated, killed, stopped], ids=lambda case: case.__name__)
def test_down_with_release_gives_the_subnet_back_too(
    lab: Lab, node: Any, case: Callable[[Lab], None]
) -> None:
    identity = lab.read_file("n1", f"{STATE_DIR}/id")
    case(lab)
    done = node.tulle("n1", "down", "--release")
    assert "lease of n1: released" in done.stdout
    assert_gone(lab, node)
    assert set(leases_by_node(node)) == {"n2"}
    assert lab.read_file("n1", f"{STATE_DIR}/id") == identity


def test_a_release_when_all_is_down_already_finds_the_lease(lab: Lab, node: Any) -> None:
    node.tulle("n1", "down")
    done = node.tulle("n1", "down", "--release", *lab.plan.store_args())
    assert "lease of n1: released" in done.stdout
    assert set(leases_by_node(node)) == {"n2"}


def test_peers_forget_a_node_that_was_released(lab: Lab, node: Any, eventually: Callable[..., Any]) -> None:
    node.tulle("n1", "down", "--release")
    eventually(lambda: lab.status("n2")["peers"] == [])


def test_a_subnet_env_of_somebody_else_is_left(lab: Lab, node: Any) -> None:
    lab.kill_tulled("n1")
    lab.write_file("n1", SUBNET_FILE, "FLANNEL_NETWORK=10.99.0.0/16\n")
    node.tulle("n1", "down")
    assert lab.read_file("n1", SUBNET_FILE) == "FLANNEL_NETWORK=10.99.0.0/16\n"
    lab.run("n1", ["rm", SUBNET_FILE])


def test_a_sysctl_that_somebody_set_meanwhile_is_left(lab: Lab, node: Any) -> None:
    """0 is not what tulled set, so somebody wants it so."""
    lab.kill_tulled("n1")
    lab.write_file("n1", FORWARDING[6], "2\n")
    try:
        node.tulle("n1", "down")
        assert lab.read_file("n1", FORWARDING[6]) == "2\n"
        assert lab.read_file("n1", FORWARDING[4]) == "0\n"
    finally:
        lab.write_file("n1", FORWARDING[6], "0\n")


def test_down_on_a_node_where_nothing_ever_was_says_so(lab: Lab, node: Any) -> None:
    done = node.tulle("switch", "down", "--run-dir", "/run/elsewhere")
    assert done.stdout == "there was nothing of tulle's here (run directory /run/elsewhere)\n"
