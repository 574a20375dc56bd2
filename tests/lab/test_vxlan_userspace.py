"""VXLAN in user space with real packets: the wire is VXLAN and nothing else, and what is forged is dropped and counted.
(Beside kernels: test_migration; what dies or is deleted: test_kills; sizes: test_mtu_edge.)"""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab
from tulle.lab.plan import CLUSTER

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-vxlan-userspace")]

PORT = 8472
VXLAN_HEADER = bytes.fromhex("0800000000000100")
"""RFC 7348 section 5, VNI 1."""
STREAM_BYTES = 64 << 20


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(
        nodes=3,
        pods=1,
        family="dual",
        backend="vxlan",
        backend_options={"Mode": "userspace"},
        engine="python",
    )


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    return hands(lab)


def all_answer(lab: Lab, family: int) -> bool:
    found = lab.ping_all(1, family=family)
    return len(found) == 6 and set(found.values()) == {1}


@pytest.mark.parametrize("family", [4, 6])
def test_every_pod_reaches_every_pod_and_64_mb_arrive_unchanged(
    lab: Lab, say: Callable[[str, object], None], family: int
) -> None:
    assert all_answer(lab, family)
    result = lab.transfer("n1/p1", "n2/p1", STREAM_BYTES, family=family)
    say("gbit-s", result.gbit_s)
    assert (result.bytes, result.unchanged) == (STREAM_BYTES, True)


def test_it_says_in_which_mode_it_runs_and_doctor_finds_nothing_wrong(lab: Lab, node: Any) -> None:
    status = lab.status("n1")
    assert (status["ready"], status["problems"]) == (True, [])
    assert (status["backend"]["mode"], status["backend"]["mode_because"]) == (
        "userspace",
        "asked for by Mode",
    )
    assert lab.forwarder_pid("n1") is not None
    assert not any(name.startswith("flannel") for name in node.links("n1"))
    report = json.loads(node.tulle("n1", "doctor", "-o", "json").stdout)
    assert [one for one in report["findings"] if one["severity"] in ("warning", "error")] == []
    assert "probe: arrived" in node.tulle("n1", "trace", lab.address("n2/p1")).stdout


def test_what_passes_between_the_nodes_is_vxlan_and_nothing_of_the_pods_in_clear(lab: Lab, node: Any) -> None:
    with node.capture("switch") as finish:
        for family in (4, 6):
            assert lab.ping("n1/p1", "n2/p1", 5, family=family) == 5
        packets = [bytes.fromhex(one["packet"]) for one in finish()]
    clusters = [ip_network(one) for one in CLUSTER.values()]
    outer = [ends(one) for one in packets]
    assert [one for pair in outer for one in pair if any(one in net for net in clusters)] == []
    macs = {name: lab.status(name)["backend"]["macs"] for name in ("n1", "n2")}
    for index, (family, size) in enumerate(((4, 20), (6, 40))):
        nodes = {ip_address(lab.address(name, family)): name for name in ("n1", "n2")}
        between = [
            (nodes[pair[1]], nodes[pair[0]], one[size:])
            for one, pair in zip(packets, outer, strict=True)
            if set(pair) == set(nodes) and one[9 if family == 4 else 6] == 17  # UDP
        ]
        assert len(between) >= 10
        for receiver, sender, datagram in between:
            assert datagram[:4] == PORT.to_bytes(2, "big") * 2, "source and destination port"
            assert datagram[8:16] == VXLAN_HEADER
            assert datagram[16:28] == raw(macs[receiver][index]) + raw(macs[sender][index])
            assert datagram[28:30] == {4: b"\x08\x00", 6: b"\x86\xdd"}[family]


def ends(packet: bytes) -> tuple[Any, Any]:
    start, size = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
    source, target = packet[start : start + size], packet[start + size : start + 2 * size]
    return ip_address(source), ip_address(target)


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def test_what_is_forged_is_dropped_under_its_name(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    """From a peer's address, so that headers alone tell."""
    ours, theirs = (raw(lab.status(name)["backend"]["macs"][0]) for name in ("n1", "n2"))
    frame = ours + theirs + b"\x08\x00" + b"\x45" + bytes(40)
    wrong = {
        "drop-short": VXLAN_HEADER,
        "drop-flags": b"\x88" + VXLAN_HEADER[1:] + frame,
        "drop-vni": VXLAN_HEADER[:6] + b"\x02\x00" + frame,
        "drop-foreign-mac": VXLAN_HEADER + b"\xff" * 6 + frame[6:],
        "drop-not-ip": VXLAN_HEADER + frame[:12] + b"\x08\x06" + frame[14:],
        "drop-vlan": VXLAN_HEADER + frame[:12] + b"\x81\x00" + frame[14:],
        "drop-bad-inner": VXLAN_HEADER + frame,
    }
    before = node.counters("n1")
    for datagram in wrong.values():
        node.wire("n2", do="udp", to=[lab.address("n1"), PORT], payload=datagram.hex(), count=3)

    def counted() -> bool:
        now = node.counters("n1")
        return all(now.get(name, 0) == before.get(name, 0) + 3 for name in wrong)

    eventually(counted)
    assert all_answer(lab, 4)


def test_down_leaves_nothing_and_the_node_comes_back_with_subnet_and_macs(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    before = lab.status("n3")
    node.tulle("n3", "down")
    assert "tulle0" not in node.links("n3")
    assert node.routes("n3", RTPROT_TULLE) == []
    assert lab.forwarder_pid("n3") is None
    lab.start_tulled("n3")
    lab.wait_ready()
    after = lab.status("n3")
    assert (after["subnets"], after["backend"]["macs"]) == (before["subnets"], before["backend"]["macs"])
    eventually(lambda: all_answer(lab, 4) and all_answer(lab, 6))
