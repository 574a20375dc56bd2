"""The vxlan backend with real packets: every pod to every pod, whatever is taken away comes back, and a node that was
set up by hand as flannel sets it up talks with tulle's and becomes one of them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab
from tulle.lab.plan import CLUSTER, SQLITE_FILE, SUBNET_FILE

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-vxlan")]

PORT = 8472
DEVICES = {4: "flannel.1", 6: "flannel-v6.1"}
FORWARDING = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}
WITHIN_S = 20.0
"""Ten times the two seconds that are meant: those are judged by the recorded figure."""
PREFIX = "/coreos.com/network"
TULLE = (sys.executable, "-m", "tulle.cli.main")
PUT = """
import asyncio, sys
from tulle.contracts.store import Put
from tulle_sqlite.store import SqliteStore
async def main(path, key, value):
    store = SqliteStore(path)
    await store.transact([], [Put(key, value.encode(), lease=await store.grant(86400))])
    await store.close()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=3, pods=1, family="dual", backend="vxlan")


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    return hands(lab)


def all_answer(lab: Lab, family: int) -> bool:
    found = lab.ping_all(1, family=family)
    return len(found) == 6 and set(found.values()) == {1}


@pytest.mark.parametrize("kind", ["4", "6", "dual"])
def test_every_pod_reaches_every_pod_and_64_mb_arrive_unchanged(
    make_lab: Callable[..., Lab], kind: str, say: Callable[[str, object], None]
) -> None:
    lab = make_lab(nodes=3, pods=1, family=kind, backend="vxlan")
    for family in lab.plan.families:
        assert all_answer(lab, family)
        result = lab.transfer("n1/p1", "n2/p1", family=family)
        say(f"gbit-s-{family}", result.gbit_s)
        assert result.unchanged
        assert lab.transfer("n3/p1", "n1/p1", 1 << 20, family=family).unchanged


def test_the_kernel_carries_it_alone(lab: Lab) -> None:
    status = lab.status("n1")
    assert (status["ready"], status["problems"]) == (True, [])
    assert status["backend"]["devices"] == list(DEVICES.values())
    assert lab.forwarder_pid("n1") is None
    time.sleep(1.5)  # a look at the node's files lies in it
    assert "file-not-mended" not in lab.logs("n1")


def test_doctor_finds_nothing_wrong_and_trace_knows_the_way(lab: Lab, node: Any) -> None:
    report = json.loads(node.tulle("n1", "doctor", "-o", "json").stdout)
    assert [one for one in report["findings"] if one["severity"] in ("warning", "error")] == []
    shown = node.tulle("n1", "trace", lab.address("n2/p1")).stdout
    assert "the kernel itself carries what goes into it" in shown
    assert "probe: arrived" in shown


def test_what_passes_between_the_nodes_is_vxlan_and_nothing_of_the_pods_in_clear(lab: Lab, node: Any) -> None:
    with node.capture("switch") as finish:
        for family in (4, 6):
            assert lab.ping("n1/p1", "n2/p1", 5, family=family) == 5
        packets = [bytes.fromhex(one["packet"]) for one in finish()]
    clusters = [ip_network(one) for one in CLUSTER.values()]
    outer = [addresses(one) for one in packets]
    assert [one for pair in outer for one in pair if any(one in net for net in clusters)] == []
    for family, size in ((4, 20), (6, 40)):
        ends = {ip_address(lab.address(name, family)) for name in ("n1", "n2")}
        ours = [one for one, pair in zip(packets, outer, strict=True) if set(pair) == ends]
        wrapped = [one[size:] for one in ours if int.from_bytes(one[size + 2 : size + 4], "big") == PORT]
        assert len(wrapped) >= 10
        assert {one[8:16] for one in wrapped} == {
            bytes.fromhex("0800000000000100")
        }  # RFC 7348 section 5, VNI 1


def addresses(packet: bytes) -> tuple[Any, Any]:
    start, size = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
    source, target = packet[start : start + size], packet[start + size : start + 2 * size]
    return ip_address(source), ip_address(target)


def permanent(lab: Lab, place: str, family: int) -> tuple[list[str], list[str], list[str]]:
    """FDB entries, neighbours and routes of the device there, as iproute2 tells."""
    device = DEVICES[family]
    return (
        sorted(one for one in words(lab, place, "bridge", "fdb", "show", "dev", device) if " dst " in one),
        sorted(words(lab, place, "ip", f"-{family}", "neigh", "show", "dev", device, "nud", "permanent")),
        sorted(
            words(lab, place, "ip", f"-{family}", "route", "show", "dev", device, "proto", str(RTPROT_TULLE))
        ),
    )


def words(lab: Lab, place: str, *command: str) -> list[str]:
    return [line.strip() for line in lab.run(place, list(command)).stdout.splitlines()]


@pytest.mark.parametrize("family", [4, 6])
def test_a_deleted_device_is_back_with_its_mac_and_all_that_lay_on_it(
    lab: Lab, node: Any, eventually: Callable[..., Any], say: Callable[[str, object], None], family: int
) -> None:
    device = DEVICES[family]
    before, facts = permanent(lab, "n1", family), node.links("n1")[device]
    assert all(len(one) == 2 for one in before)
    node.kernel("n1", ("link", "del", {"link": device}))
    deleted = time.monotonic()
    eventually(lambda: lab.ping("n1/p1", "n2/p1", family=family) == 1, within_s=WITHIN_S)
    say("traffic-again-after-s", round(time.monotonic() - deleted, 2))
    eventually(lambda: permanent(lab, "n1", family) == before)
    assert node.links("n1")[device] | {"index": 0} == facts | {"index": 0}
    assert node.links("n1")[device]["index"] != facts["index"]
    assert all_answer(lab, family)
    assert any(f"{device}: made" in one["line"] for one in lab.status("n1")["mended"])


@pytest.mark.parametrize("family", [4, 6])
def test_an_entry_that_somebody_removes_is_back(
    lab: Lab, eventually: Callable[..., Any], say: Callable[[str, object], None], family: int
) -> None:
    device, before = DEVICES[family], permanent(lab, "n1", family)
    mac, near = before[0][0].split()[0], before[1][0].split()[0]
    outer, prefix = before[0][0].split()[2], before[2][0].split()[0]
    for command in (
        ["bridge", "fdb", "del", mac, "dev", device, "dst", outer],
        ["bridge", "fdb", "replace", mac, "dev", device, "dst", lab.address("switch", family)],
        ["ip", "neigh", "del", near, "dev", device],
        ["ip", f"-{family}", "route", "del", prefix],
        ["ip", "link", "set", device, "down"],
    ):
        lab.run("n1", command)
        done = time.monotonic()
        eventually(lambda: permanent(lab, "n1", family) == before, within_s=WITHIN_S)
        say(f"back-after-s: {' '.join(command[:3])}", round(time.monotonic() - done, 2))
    assert all_answer(lab, family)


def test_no_packet_is_lost_and_nothing_is_touched_when_tulled_is_killed_and_started_again(
    lab: Lab, say: Callable[[str, object], None]
) -> None:
    with lab.flood("n1/p1", "n2/p1", count=10_000, rate=4000.0) as flood:
        time.sleep(0.3)
        lab.kill_tulled("n1")
        said = len(lab.logs("n1"))
        lab.start_tulled("n1")
        lab.wait_ready()
        result = flood.finish()
    say("flood", result)
    assert (result.sent, result.lost, result.duplicates) == (10_000, 0, 0)
    log = lab.logs("n1")[said:]
    assert " ready peers=2" in log
    assert "kernel-set" not in log
    assert "kernel-mended" not in log


def test_down_removes_devices_routes_and_covers(lab: Lab, node: Any, eventually: Callable[..., Any]) -> None:
    subnets = lab.status("n2")["subnets"]
    node.tulle("n2", "down")
    assert set(node.links("n2")).isdisjoint(DEVICES.values())
    assert node.routes("n2", RTPROT_TULLE) == []
    assert not node.exists("n2", SUBNET_FILE)
    lab.start_tulled("n2")
    lab.wait_ready()
    assert lab.status("n2")["subnets"] == subnets
    eventually(lambda: all_answer(lab, 4) and all_answer(lab, 6))


def test_a_cluster_changes_from_udp_to_vxlan_and_back_and_each_leaves_nothing(
    make_lab: Callable[..., Lab], hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    lab = make_lab(nodes=3, pods=1, family="4", backend="vxlan")
    node = hands(lab)
    for backend, there, gone, forwards in (
        ("udp", "tulle0", "flannel.1", True),
        ("vxlan", "flannel.1", "tulle0", False),
    ):
        config = lab.plan.network_config() | {"Backend": {"Type": backend}}
        text = json.dumps(config)
        lab.run("switch", [*TULLE, "config", "set", "-", *lab.plan.store_args()], input=text)
        for name in lab.plan.node_names:
            lab.kill_tulled(name)
        for name in lab.plan.node_names:
            lab.start_tulled(name)
        lab.wait_ready()
        eventually(lambda: all_answer(lab, 4))
        for name in lab.plan.node_names:
            assert there in node.links(name)
            eventually(lambda name=name, gone=gone: gone not in node.links(name))
            assert (lab.forwarder_pid(name) is not None) is forwards
            assert lab.status(name)["problems"] == []


# --- beside flannel -------------------------------------------------------------------------------------------------

FLANNELS_MAC = {4: "5e:11:22:33:44:55", 6: "5e:11:22:33:66:55"}
"""Random, as flannel's are."""


@pytest.fixture
def flannel_node(lab: Lab, node: Any) -> Iterator[Mapping[int, str]]:
    """n3, set up with ip and bridge as flannel would, and with flannel's lease. Gives its subnets by family."""
    subnets = {ip_network(one).version: one for one in lab.status("n3")["subnets"]}
    peers = [peer_of(lab, name) for name in ("n1", "n2")]
    node.tulle("n3", "down", "--release")
    for family, subnet in subnets.items():
        lab.write_file("n3", FORWARDING[family], "1\n")
        set_up(lab, family, subnet, peers)
    key = "&".join(subnets[family].replace("/", "-") for family in (4, 6))
    value = {
        "PublicIP": lab.address("n3", 4),
        "PublicIPv6": lab.address("n3", 6),
        "BackendType": "vxlan",
        "BackendData": {"VNI": 1, "VtepMAC": FLANNELS_MAC[4]},
        "BackendV6Data": {"VNI": 1, "VtepMAC": FLANNELS_MAC[6]},
    }
    put = [sys.executable, "-c", PUT, SQLITE_FILE, f"{PREFIX}/subnets/{key}", json.dumps(value)]
    lab.run("switch", put)
    yield subnets
    if lab.tulled_pid("n3") is None:
        lab.start_tulled("n3")
    lab.wait_ready()


def peer_of(lab: Lab, name: str) -> dict[int, tuple[str, str, str]]:
    """By family: subnet, MAC and underlay address."""
    status = lab.status(name)
    subnets = {ip_network(one).version: one for one in status["subnets"]}
    macs = dict(zip((4, 6), status["backend"]["macs"], strict=True))
    return {family: (subnets[family], macs[family], lab.address(name, family)) for family in (4, 6)}


def set_up(lab: Lab, family: int, subnet: str, peers: list[dict[int, tuple[str, str, str]]]) -> None:
    device, near = DEVICES[family], subnet.partition("/")[0]
    bits, mtu = (32, 1450) if family == 4 else (128, 1430)
    lines = [
        f"link add {device} address {FLANNELS_MAC[family]} mtu {mtu} type vxlan id 1 "
        f"local {lab.address('n3', family)} dev eth0 dstport {PORT} nolearning",
        f"link set {device} up",
        f"address add {near}/{bits} dev {device}",
    ]
    for peer in peers:
        podnet, mac, outer = peer[family]
        gateway = podnet.partition("/")[0]
        lines.append(f"route add {podnet} via {gateway} dev {device} onlink")
        lines.append(f"neighbour add {gateway} dev {device} lladdr {mac} nud permanent")
        lab_fdb = ["bridge", "fdb", "append", mac, "dev", device, "dst", outer, "self", "permanent"]
        if len(lines) == 5:
            lab.run("n3", ["ip", "-batch", "-"], input="\n".join(lines[:3]) + "\n")
        lab.run("n3", lab_fdb)
    lab.run("n3", ["ip", "-batch", "-"], input="\n".join(lines[3:]) + "\n")


def test_a_node_that_was_set_up_as_flannel_does_talks_with_ours_and_is_taken_over_without_loss(
    lab: Lab,
    node: Any,
    flannel_node: Mapping[int, str],
    eventually: Callable[..., Any],
    say: Callable[[str, object], None],
) -> None:
    for family in (4, 6):
        eventually(lambda family=family: all_answer(lab, family))
        assert lab.transfer("n3/p1", "n1/p1", 1 << 20, family=family).unchanged
    before = {family: node.links("n3")[DEVICES[family]]["index"] for family in (4, 6)}
    with lab.flood("n1/p1", "n3/p1", count=15_000, rate=4000.0) as flood:
        lab.start_tulled("n3")
        lab.wait_ready()
        result = flood.finish()
    say("flood", result)
    assert (result.lost, result.duplicates) == (0, 0)
    assert {family: node.links("n3")[DEVICES[family]]["index"] for family in (4, 6)} == before
    status = lab.status("n3")
    assert status["problems"] == []
    for family in (4, 6):
        assert all(len(one) == 2 for one in permanent(lab, "n3", family))
    assert status["subnets"] == [flannel_node[4], flannel_node[6]]
    assert status["backend"]["macs"] == list(FLANNELS_MAC.values())
    for family in (4, 6):
        assert all_answer(lab, family)

    node.tulle("n3", "down")  # as after a reboot: the device is gone, the lease is there
    assert set(node.links("n3")).isdisjoint(DEVICES.values())
    lab.start_tulled("n3")
    lab.wait_ready()
    assert lab.status("n3")["backend"]["macs"] == list(FLANNELS_MAC.values())
    eventually(lambda: all_answer(lab, 4) and all_answer(lab, 6))
