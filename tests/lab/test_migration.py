"""A node that was set up by hand as flannel sets it up: it talks with tulle's nodes of both modes, and becomes one of
them without losing a packet, with the subnet that it had."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab, LabError
from tulle.lab.plan import SQLITE_FILE, SUBNET_FILE

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-migration")]

PORT = 8472
DEVICES = {4: "flannel.1", 6: "flannel-v6.1"}
FORWARDING = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}
FLANNELS_MAC = {4: "5e:11:22:33:44:55", 6: "5e:11:22:33:66:55"}
"""Random, as flannel's are."""
PREFIX = "/coreos.com/network"
TULLE = (sys.executable, "-m", "tulle.cli.main")
STORE = (sys.executable, str(Path(__file__).with_name("store.py")))
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
STREAM_BYTES = 8 << 20
WITHIN_S = 20.0
PACKETS, RATE = 7_500, 2500.0
SWITCH_PACKETS, SWITCH_RATE = 5_000, 2000.0
SWITCH_LOSS_S = 1.0
"""Ten times what is seen on a quiet machine, each way."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=3, pods=1, family="dual", backend="vxlan")


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    return hands(lab)


def all_answer(lab: Lab, family: int) -> bool:
    found = lab.ping_all(1, family=family)
    return len(found) == 6 and set(found.values()) == {1}


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
    how = {"count": PACKETS, "rate": RATE}
    with (
        lab.flood("n1/p1", "n3/p1", **how) as to_it,
        lab.flood("n3/p1", "n2/p1", **how, family=6) as from_it,
    ):
        lab.start_tulled("n3")
        lab.wait_ready()
        for flood in (to_it, from_it):
            result = flood.finish()
            say("flood", result)
            assert (result.sent, result.lost, result.duplicates) == (PACKETS, 0, 0)
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


def wait_ready(lab: Lab, name: str) -> None:
    """That node alone: another is flannel's."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        with suppress(LabError):
            if lab.status(name)["ready"]:
                return
        assert time.monotonic() < deadline, f"{name} is not ready"
        time.sleep(0.05)


@contextmanager
def running_in(lab: Lab, name: str, mode: str) -> Iterator[None]:
    """That node's tulled is started again with `Mode`, and afterwards once more as before."""
    for asked in (mode, "auto"):
        config = lab.plan.network_config() | {"Backend": {"Type": "vxlan", "Mode": asked}}
        lab.run("switch", [*TULLE, "config", "set", "-", *lab.plan.store_args()], input=json.dumps(config))
        lab.kill_tulled(name)
        lab.start_tulled(name)
        wait_ready(lab, name)
        if asked == mode:
            yield


def test_kernel_user_space_and_a_hand_made_node_talk_with_each_other(
    lab: Lab, node: Any, flannel_node: Mapping[int, str], eventually: Callable[..., Any]
) -> None:
    """n1 is tulle's in the kernel, n2 in user space, n3 is made with ip and bridge."""
    with running_in(lab, "n2", "userspace"):
        assert [lab.status(name)["backend"]["mode"] for name in ("n1", "n2")] == ["kernel", "userspace"]
        assert set(node.links("n2")).isdisjoint(DEVICES.values())
        for family in (4, 6):
            eventually(lambda family=family: all_answer(lab, family))
            for source, target in (("n3", "n2"), ("n2", "n3"), ("n1", "n2"), ("n2", "n1"), ("n3", "n1")):
                moved = lab.transfer(f"{source}/p1", f"{target}/p1", STREAM_BYTES, family=family)
                assert moved.unchanged, (source, target, family)
    assert lab.status("n2")["backend"]["mode"] == "kernel"
    for family in (4, 6):
        eventually(lambda family=family: all_answer(lab, family))


def test_a_switch_between_the_modes_loses_no_more_than_is_said(
    lab: Lab, eventually: Callable[..., Any], say: Callable[[str, object], None]
) -> None:
    macs = lab.status("n2")["backend"]["macs"]

    @contextmanager
    def flooded(what: str) -> Iterator[None]:
        ways = (("n2/p1", "n1/p1", 4), ("n1/p1", "n2/p1", 4), ("n1/p1", "n2/p1", 6))
        with ExitStack() as stack:
            floods = [
                stack.enter_context(
                    lab.flood(source, target, count=SWITCH_PACKETS, rate=SWITCH_RATE, family=family)
                )
                for source, target, family in ways
            ]
            time.sleep(0.3)
            yield
            for way, flood in zip(ways, floods, strict=True):
                result = flood.finish()
                say(f"{what}: lost {' '.join(map(str, way))}, s", result.lost / SWITCH_RATE)
                assert result.lost < SWITCH_LOSS_S * SWITCH_RATE

    switch = running_in(lab, "n2", "userspace")
    with flooded("to user space"):
        switch.__enter__()
    assert lab.status("n2")["backend"]["macs"] == macs
    with flooded("to the kernel"):
        switch.__exit__(None, None, None)
    assert lab.status("n2")["backend"]["macs"] == macs
    eventually(lambda: lab.status("n2")["problems"] == [])
    assert lab.forwarder_pid("n2") is None


def test_a_lease_that_is_gone_is_found_again_by_flannels_subnet_env(
    lab: Lab, node: Any, flannel_node: Mapping[int, str], eventually: Callable[..., Any]
) -> None:
    """As after a long outage of the store: flannel's file on the node is all that tells."""
    key = "&".join(flannel_node[family].replace("/", "-") for family in (4, 6))
    lab.run("n1", [*STORE, "delete", f"subnets/{key}"])
    hosts = {family: first_host(flannel_node[family]) for family in (4, 6)}
    text = (
        f"FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET={hosts[4]}\nFLANNEL_IPV6_NETWORK=fd42::/48\n"
        f"FLANNEL_IPV6_SUBNET={hosts[6]}\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n"
    )
    lab.run("n3", ["mkdir", "-p", str(Path(SUBNET_FILE).parent)])
    lab.write_file("n3", SUBNET_FILE, text)
    lab.start_tulled("n3")
    lab.wait_ready()
    status = lab.status("n3")
    assert status["subnets"] == [flannel_node[4], flannel_node[6]]
    assert status["backend"]["macs"] == list(FLANNELS_MAC.values()), "the device is adopted all the same"
    eventually(lambda: all_answer(lab, 4) and all_answer(lab, 6))


def first_host(subnet: str) -> str:
    network = ip_network(subnet)
    return f"{network[1]}/{network.prefixlen}"
