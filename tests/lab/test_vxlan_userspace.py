"""VXLAN in user space with real packets: the wire is VXLAN and nothing else, sizes are right at the edge, whatever dies
or is deleted comes back, and what is forged is dropped and counted. (Beside kernels: test_migration.)"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab
from tulle.lab.measure import StreamResult
from tulle.lab.plan import CLUSTER

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-vxlan-userspace")]

PORT = 8472
VXLAN_HEADER = bytes.fromhex("0800000000000100")
"""RFC 7348 section 5, VNI 1."""
MTU, UNDERLAY_MTU = 1430, 1500
"""1500 - 70: one device for both families."""
UDP_HEADERS = {4: 28, 6: 48}
TOO_BIG = {4: (3, 4), 6: (2, 0)}  # ICMP type and code: RFC 792, RFC 4443 section 3.2
STREAM_BYTES = 64 << 20
KILLS, HAND_OVERS = 3, 2
PACKETS, RATE = 8_000, 2_000.0
WITHIN_S = 20.0
"""Ten times what is meant."""


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


@pytest.mark.parametrize("family", [4, 6])
def test_the_largest_packet_passes_and_the_next_is_answered_with_the_mtu(
    lab: Lab, node: Any, eventually: Callable[..., Any], family: int
) -> None:
    """n1's pod believes in the underlay's MTU, as one that a careless CNI plugin made would."""
    assert lab.nets["n1"].mtu == lab.status("n1")["backend"]["mtu"] == MTU
    wide = (("n1", "cni0"), ("n1", "to-p1"), ("n1/p1", "eth0"))
    try:
        for place, link in wide:
            node.kernel(place, ("link", "set", {"link": link, "mtu": UNDERLAY_MTU}))
        to, largest = [lab.address("n2/p1", family), 7777], MTU - UDP_HEADERS[family]
        with node.capture("n2/p1", link="eth0") as finish:
            node.wire("n1/p1", do="probe", to=to, size=largest, wait_s=1.0)
            assert MTU in {len(one["packet"]) // 2 for one in finish()}
        answer = eventually(lambda: node.wire("n1/p1", do="probe", to=to, size=largest + 1, wait_s=1.2))
        assert (answer["type"], answer["code"], answer["mtu"]) == (*TOO_BIG[family], MTU)
    finally:
        for place, link in wide:
            node.kernel(place, ("link", "set", {"link": link, "mtu": MTU}))


@contextmanager
def streams(lab: Lab) -> Iterator[list[StreamResult]]:
    """One after the other from n1's pod to n2's, as long as the block lasts; all are there behind it."""
    found: list[StreamResult] = []
    enough = threading.Event()

    def run() -> None:
        while not enough.is_set():
            found.append(lab.transfer("n1/p1", "n2/p1", STREAM_BYTES, timeout=60.0))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield found
        finally:
            enough.set()
            running.result(timeout=100)


def test_kills_of_tulled_and_hand_overs_lose_no_packet_and_change_no_byte(
    lab: Lab, node: Any, say: Callable[[str, object], None]
) -> None:
    with streams(lab) as moved, lab.flood("n3/p1", "n1/p1", count=PACKETS, rate=RATE) as flood:
        for _ in range(KILLS):
            lab.kill_tulled("n1")
            lab.start_tulled("n1")
            lab.wait_ready()
        for _ in range(HAND_OVERS):
            before = lab.forwarder_pid("n1")
            node.tulle("n1", "forwarder", "replace")
            assert lab.forwarder_pid("n1") != before
        result = flood.finish()
    say("flood", result)
    assert (result.sent, result.lost, result.duplicates) == (PACKETS, 0, 0)
    assert moved
    assert all((one.bytes, one.unchanged) == (STREAM_BYTES, True) for one in moved)


def test_a_stream_survives_that_the_link_is_deleted_and_the_forwarder_killed(
    lab: Lab, node: Any, eventually: Callable[..., Any], say: Callable[[str, object], None]
) -> None:
    with streams(lab) as moved:
        time.sleep(0.1)
        node.kernel("n1", ("link", "del", {"link": "tulle0"}))
        deleted = time.monotonic()
        eventually(lambda: lab.ping("n3/p1", "n1/p1") == 1, within_s=WITHIN_S)
        say("after the link's end again after, s", round(time.monotonic() - deleted, 2))
        lab.kill_forwarder("n1")
        killed = time.monotonic()
        eventually(lambda: lab.ping("n3/p1", "n1/p1", family=6) == 1, within_s=WITHIN_S)
        say("after the forwarder's end again after, s", round(time.monotonic() - killed, 2))
    assert moved
    assert all((one.bytes, one.unchanged) == (STREAM_BYTES, True) for one in moved)
    lab.wait_ready()
    assert all_answer(lab, 4)
    assert all_answer(lab, 6)


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
