"""Somebody deletes or changes the tunnel device: it comes back, and meanwhile nothing leaves in clear."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab
from tulle.lab.plan import CLUSTER

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-device")]

DEVICE = "tulle0"
ROUTES = 4
"""The cluster network and its cover, in two families."""
DESTINATION_UNREACHABLE = {4: 3, 6: 1}  # ICMP types: RFC 792, RFC 4443 section 3.1
NO_ROUTE = {4: 1, 6: 0}
"""The code that Linux answers an "unreachable" route with: host unreachable (RFC 792), no route (RFC 4443)."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, pods=1, family="dual")


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any], eventually: Callable[..., Any]) -> Any:
    """Whole again after what the test before has done."""
    found = hands(lab)
    eventually(lambda: len(found.routes("n1", RTPROT_TULLE)) == ROUTES)
    lab.wait_ready()
    return found


@pytest.mark.parametrize("family", [4, 6])
def test_a_deleted_device_comes_back_under_the_same_name_and_packets_pass_again(
    lab: Lab, node: Any, eventually: Callable[..., Any], say: Callable[[str, object], None], family: int
) -> None:
    before = node.links("n1")[DEVICE]
    forwarder = lab.forwarder_pid("n1")
    node.kernel("n1", ("link", "del", {"link": DEVICE}))
    deleted = time.monotonic()
    eventually(lambda: lab.ping("n1/p1", "n2/p1", family=family) == 1)
    say("traffic-again-after-s", round(time.monotonic() - deleted, 2))
    after = node.links("n1")[DEVICE]
    assert after["index"] != before["index"]
    assert after | {"index": 0} == before | {"index": 0}
    assert lab.forwarder_pid("n1") == forwarder
    assert lab.ping("n2/p1", "n1/p1", 3, family=family) == 3
    mended = [one["line"] for one in lab.status("n1")["mended"]]
    assert f"{DEVICE}: opened again, it had been deleted" in mended


@pytest.mark.parametrize("family", [4, 6])
def test_while_the_device_is_away_the_cluster_network_is_unreachable_and_nothing_leaks(
    lab: Lab, node: Any, eventually: Callable[..., Any], family: int
) -> None:
    """tulled is held so that the device stays away: the cover route is what is left."""
    target = [lab.address("n2/p1", family), 9]
    with node.capture("switch", within=list(CLUSTER.values())) as finish:
        lab.kill_tulled("n1", signal.SIGSTOP)
        try:
            node.kernel("n1", ("link", "del", {"link": DEVICE}))
            # Linux sends such errors to one host once a second, and an earlier test may have used that up.
            answer = eventually(lambda: node.wire("n1/p1", do="probe", to=target, size=100, wait_s=1.2))
            assert lab.ping("n1/p1", "n2/p1", 3, family=family) == 0
        finally:
            lab.kill_tulled("n1", signal.SIGCONT)
        leaked = finish()
    assert leaked == []
    assert (answer["type"], answer["code"]) == (DESTINATION_UNREACHABLE[family], NO_ROUTE[family])
    eventually(lambda: lab.ping("n1/p1", "n2/p1", family=family) == 1)


def test_the_capture_of_the_test_above_sees_what_leaves_in_clear(lab: Lab, node: Any) -> None:
    """By hand: a packet to the cluster network on the underlay."""
    with node.capture("switch", within=[CLUSTER[4]]) as finish:
        lab.kill_tulled("n1", signal.SIGSTOP)
        leak = {"dst": "10.42.250.0/24", "gateway": "192.0.2.254", "link": "eth0"}
        node.kernel("n1", ("route", "add", leak))
        try:
            node.wire("n1", do="udp", to=["10.42.250.1", 9], payload="00")
        finally:
            node.kernel("n1", ("route", "del", leak))
            lab.kill_tulled("n1", signal.SIGCONT)
        assert finish() != []


def test_all_that_passes_the_underlay_between_pods_is_encapsulated(lab: Lab, node: Any) -> None:
    with node.capture("switch") as finish:
        assert lab.ping("n1/p1", "n2/p1", 5) == 5
        seen = finish()
    inner = {lab.address("n1/p1"), lab.address("n2/p1")}
    outer = {lab.address("n1"), lab.address("n2")}
    packets = [bytes.fromhex(one["packet"]) for one in seen]
    addresses = [{dotted(one[12:16]), dotted(one[16:20])} for one in packets if one[0] >> 4 == 4]
    assert [one for one in addresses if one & inner] == []
    assert len([one for one in addresses if one == outer]) >= 10


def dotted(address: bytes) -> str:
    return ".".join(map(str, address))


def test_what_somebody_changes_on_the_device_is_mended(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    before = node.links("n1")[DEVICE]
    node.kernel("n1", ("link", "set", {"link": DEVICE, "mtu": 1200}))
    eventually(lambda: node.links("n1")[DEVICE] == before)
    node.kernel("n1", ("link", "set", {"link": DEVICE, "state": "down"}))
    eventually(lambda: node.links("n1")[DEVICE] == before and lab.ping("n1/p1", "n2/p1") == 1)
    assert lab.ping("n2/p1", "n1/p1", 3, family=6) == 3


def test_routes_that_somebody_removes_come_back(lab: Lab, node: Any, eventually: Callable[..., Any]) -> None:
    def ours() -> list[Any]:
        return sorted(map(str, node.routes("n1", RTPROT_TULLE)))

    before = ours()
    node.kernel("n1", ("route", "del", {"dst": CLUSTER[4], "link": DEVICE}))
    node.kernel("n1", ("route", "del", {"dst": CLUSTER[6], "link": DEVICE}))
    eventually(lambda: ours() == before)
    assert lab.ping("n1/p1", "n2/p1", 3) == 3
