"""host-gw between real nodes: pods talk over the bare wire, and the routes are as they should be whatever happens."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab
from tulle.lab.plan import CLUSTER

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-hostgw")]

STORE = (sys.executable, str(Path(__file__).with_name("store.py")))
STRANGER = "10.42.250.0-24"
"""A lease that a hand writes into the store."""
MTU, NARROW_MTU = 1500, 1400
UDP_HEADERS = {4: 28, 6: 48}
STREAM_BYTES = 16 << 20
WITHIN_S = 20.0
"""Ten times the figure that is promised, for machines under load; the figure is recorded."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """--iface eth0 is the lab's; the pattern finds the interface again when it is renamed."""
    return make_lab(
        nodes=3,
        pods=1,
        family="dual",
        backend="host-gw",
        tulled_args=["--iface-regex", r"^192\.0\.2\."],
    )


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    lab.wait_ready()
    return hands(lab)


def talk(lab: Lab) -> bool:
    """All pods to all pods, in each family of the lab."""
    return all(
        answers == 1 for family in lab.plan.families for answers in lab.ping_all(family=family).values()
    )


def ours(node: Any, name: str) -> set[tuple[str, str]]:
    return {(one["destination"], one["kind"]) for one in node.routes(name, RTPROT_TULLE)}


def problems(lab: Lab, name: str = "n1") -> dict[str, dict[str, Any]]:
    return {one["code"]: one for one in lab.status(name)["problems"]}


def gateway(lab: Lab, name: str, destination: str) -> str:
    words = lab.run(name, ["ip", "route", "show", destination]).stdout.split()
    return words[words.index("via") + 1] if "via" in words else ""


@pytest.mark.parametrize("family", ["4", "6", "dual"])
def test_pods_of_all_nodes_talk_and_a_stream_arrives_whole(make_lab: Callable[..., Lab], family: str) -> None:
    how = {"tulled_args": ["--iface-regex", r"^192\.0\.2\."]} if family == "dual" else {}
    lab = make_lab(nodes=3, pods=1, family=family, backend="host-gw", **how)
    assert talk(lab)
    for one in lab.plan.families:
        result = lab.transfer("n1/p1", "n2/p1", STREAM_BYTES, family=one)
        assert (result.bytes, result.unchanged) == (STREAM_BYTES, True)
    assert [lab.forwarder_pid(name) for name in lab.plan.node_names] == [None] * 3
    assert lab.nets["n1"].mtu == MTU


def test_on_the_wire_is_the_pods_packet_and_nothing_else(lab: Lab, node: Any) -> None:
    pods = [ip_address(lab.address(f"n{number}/p1", family)) for number in (1, 2) for family in (4, 6)]
    with node.capture("n1", link="eth0") as finish:
        assert lab.ping("n1/p1", "n2/p1", 3) == lab.ping("n1/p1", "n2/p1", 3, family=6) == 3
        seen = [bytes.fromhex(one["packet"]) for one in finish()]
    ends = [
        (ip_address(one[12:16]), ip_address(one[16:20]))
        if one[0] >> 4 == 4
        else (ip_address(one[8:24]), ip_address(one[24:40]))
        for one in seen
    ]
    inner = [pair for pair in ends if set(pair) <= set(pods)]
    assert len(inner) == 12
    inside = [ip_network(one) for one in CLUSTER.values()]
    bodies = [one[28:] if one[0] >> 4 == 4 else one[48:] for one in seen]
    for pod in pods:
        assert not any(pod.packed in body for body in bodies), "a pod's packet went inside another packet"
    assert all(
        pair in inner or not any(one in net for one in pair for net in inside if one.version == net.version)
        for pair in ends
    )


@pytest.mark.parametrize("family", [4, 6])
def test_the_mtu_is_the_wires_and_follows_it(
    lab: Lab, node: Any, eventually: Callable[..., Any], family: int
) -> None:
    try:
        node.kernel("n1", ("link", "set", {"link": "eth0", "mtu": NARROW_MTU}))
        eventually(lambda: lab.status("n1")["backend"]["mtu"] == NARROW_MTU)
        eventually(lambda: f"FLANNEL_MTU={NARROW_MTU}\n" in lab.read_file("n1", "/run/flannel/subnet.env"))
        to, largest = [lab.address("n2/p1", family), 9], NARROW_MTU - UDP_HEADERS[family]
        with node.capture("n2/p1", link="eth0") as finish:
            node.wire("n1/p1", do="probe", to=to, size=largest, wait_s=0.2)
            assert NARROW_MTU in {len(one["packet"]) // 2 for one in finish()}
        answer = node.wire("n1/p1", do="probe", to=to, size=largest + 1)
        assert answer["mtu"] == NARROW_MTU
    finally:
        node.kernel("n1", ("link", "set", {"link": "eth0", "mtu": MTU}))
    eventually(lambda: lab.status("n1")["backend"]["mtu"] == MTU)


def test_a_peer_that_is_not_adjacent_is_named_and_the_others_work(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    value = '{"PublicIP":"203.0.113.7","PublicIPv6":null,"BackendType":"host-gw"}'
    lab.run("n1", [*STORE, "put", f"subnets/{STRANGER}", value])
    try:
        eventually(lambda: "peer-not-adjacent" in problems(lab))
        problem = problems(lab)["peer-not-adjacent"]
        assert problem["subject"] == STRANGER
        assert (
            "203.0.113.7 is not on the same link as this node (eth0 is connected to 192.0.2.0/24"
            in problem["message"]
        )
        assert "10.42.250.0/24" not in {destination for destination, _ in ours(node, "n1")}
        assert talk(lab)
        report = json.loads(node.tulle("n1", "doctor", "-o", "json", check=False).stdout)
        assert any(problem["message"] in one["what"] for one in report["findings"])
    finally:
        lab.run("n1", [*STORE, "delete", f"subnets/{STRANGER}"])
    eventually(lambda: "peer-not-adjacent" not in problems(lab))


@pytest.mark.parametrize("family", [4, 6])
def test_routes_that_somebody_flushes_come_back(
    lab: Lab, node: Any, eventually: Callable[..., Any], say: Callable[[str, object], None], family: int
) -> None:
    before = ours(node, "n1")
    began = time.monotonic()
    lab.run("n1", ["ip", f"-{family}", "route", "flush", "proto", str(RTPROT_TULLE)])
    eventually(lambda: lab.ping("n1/p1", "n2/p1", family=family) == 1, WITHIN_S)
    say("healed-after-s", round(time.monotonic() - began, 2))
    assert ours(node, "n1") == before


def test_a_renumbered_node_is_followed_by_all(lab: Lab, node: Any, eventually: Callable[..., Any]) -> None:
    subnet, old, new = lab.status("n3")["subnets"][0], lab.address("n3"), "192.0.2.33"
    for gone, came in ((old, new), (new, old)):
        steps = (
            f"ip address del {gone}/24 dev eth0",
            f"ip address add {came}/24 dev eth0",
            "ip route replace default via 192.0.2.254",  # it went with the address
        )
        lab.run("n3", ["sh", "-c", " && ".join(steps)])
        for other in ("n1", "n2"):
            eventually(lambda name=other, address=came: gateway(lab, name, subnet) == address, WITHIN_S)
        eventually(lambda: talk(lab), WITHIN_S)
        assert lab.status("n3")["subnets"][0] == subnet


def test_a_renamed_interface_is_followed(lab: Lab, node: Any, eventually: Callable[..., Any]) -> None:
    six = lab.address("n3", 6)
    for before, after in (("eth0", "lan0"), ("lan0", "eth0")):
        steps = (
            f"ip link set {before} down",
            f"ip link set {before} name {after}",
            f"ip link set {after} up",
            f"ip address add {six}/64 dev {after} nodad",  # the kernel takes it from a link that goes down
        )
        lab.run("n3", ["sh", "-c", " && ".join(steps)])
        eventually(lambda name=after: lab.status("n3")["backend"]["link"] == name, WITHIN_S)
        eventually(lambda: talk(lab), WITHIN_S)
        eventually(lambda: problems(lab, "n3") == {}, WITHIN_S)


def test_a_narrower_network_makes_a_peer_strange_and_the_old_one_brings_it_back(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    """192.0.2.0/30 holds n2 and not n3's ... .4; so n1 is given /31, which holds nobody but itself and .0."""
    lab.run(
        "n1", ["sh", "-c", "ip address add 192.0.2.1/31 dev eth0 && ip address del 192.0.2.1/24 dev eth0"]
    )
    try:
        eventually(lambda: "peer-not-adjacent" in problems(lab), WITHIN_S)
        assert lab.ping("n1/p1", "n2/p1", family=6) == 0, "of two families both must be adjacent"
    finally:
        lab.run(
            "n1", ["sh", "-c", "ip address add 192.0.2.1/24 dev eth0; ip address del 192.0.2.1/31 dev eth0"]
        )
    eventually(lambda: talk(lab), WITHIN_S)
    assert problems(lab) == {}


@pytest.mark.parametrize("running", [True, False], ids=["by tulled", "without tulled"])
def test_down_leaves_nothing(lab: Lab, node: Any, eventually: Callable[..., Any], running: bool) -> None:
    if not running:
        lab.kill_tulled("n3")
    node.tulle("n3", "down")
    assert ours(node, "n3") == set()
    assert not node.exists("n3", "/run/tulle")
    assert not node.exists("n3", "/run/flannel/subnet.env")
    lab.start_tulled("n3")
    lab.wait_ready()
    eventually(lambda: talk(lab))
