"""A stock WireGuard, wireguard-go with the tools of wireguard-tools, joins a cluster by one command on a node."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-wireguard-stock")]

NEEDED = {"wg": "wireguard-tools", "wireguard-go": "wireguard-go", "ip": "iproute2"}
INTERFACE = "wgstock0"
ADDRESS, ADDRESS_6 = "10.99.0.7", "fd99::7"
NOT_OF_WG = ("Address", "MTU")
"""Keys of wg-quick(8) that `wg setconf` does not know."""


class Laptop:
    """wireguard-go at the switch, which is on the nodes' wire and is no node."""

    def __init__(self, lab: Lab, tulle: Callable[..., Any]) -> None:
        self.lab = lab
        self.tulle = tulle
        self.private = self.run("wg", "genkey").strip()
        self.public = self.run("wg", "pubkey", input=self.private).strip()
        self.run("mkdir", "-p", "/var/run/wireguard")
        self.run("wireguard-go", INTERFACE)
        for address in (f"{ADDRESS}/32", f"{ADDRESS_6}/128"):
            self.run("ip", "address", "add", address, "dev", INTERFACE)
        self.run("ip", "link", "set", INTERFACE, "mtu", "1420", "up")

    def run(self, *argv: str, **options: Any) -> str:
        return str(self.lab.run("switch", argv, **options).stdout)

    def add(self, *more: str) -> str:
        """On n1. Returns the configuration that was printed."""
        allowed = f"{ADDRESS}/32,{ADDRESS_6}/128"
        words = ("add-peer", "laptop", "--public-key", self.public, "--allowed-ips", allowed, *more)
        return str(self.tulle("n1", "wireguard", *words).stdout)

    def take(self, text: str) -> None:
        """As wg-quick does it: what `wg` understands, and a route for each network."""
        lines = [
            f"PrivateKey = {self.private}" if line.startswith("PrivateKey") else line
            for line in text.splitlines()
            if line.split(" ")[0] not in NOT_OF_WG
        ]
        self.run("wg", "setconf", INTERFACE, "/dev/stdin", input="\n".join(lines) + "\n")
        self.forget_routes()
        for line in lines:
            key, _, value = line.partition(" = ")
            for network in value.split(", ") if key == "AllowedIPs" else ():
                self.run("ip", "route", "replace", network, "dev", INTERFACE, "proto", "static")

    def forget_routes(self) -> None:
        """Those of the last configuration: answers to others at the switch would go by them."""
        for family in ("-4", "-6"):
            self.run("ip", family, "route", "flush", "dev", INTERFACE, "proto", "static")

    def reaches(self, pod: str) -> bool:
        return all(self.lab.ping("switch", pod, family=family) == 1 for family in (4, 6))


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            pytest.fail(f"{program} is not here: apt-get install {package}")
    return make_lab(nodes=2, pods=1, backend="wireguard", family="dual")


@pytest.fixture(scope="module")
def laptop(lab: Lab, hands: Callable[[Lab], Any]) -> Iterator[Laptop]:
    made = Laptop(lab, hands(lab).tulle)
    yield made
    made.run("ip", "link", "delete", INTERFACE)


def test_a_peer_of_all_nodes_reaches_each_pod_and_is_reached(
    lab: Lab, laptop: Laptop, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    text = laptop.add()
    assert text.count("[Peer]") == 4  # two nodes with two devices each
    laptop.take(text)
    eventually(lambda: laptop.reaches("n1/p1") and laptop.reaches("n2/p1"))
    for address in (ADDRESS, ADDRESS_6):
        lab.run("n2/p1", ["ping", "-c", "1", "-W", "5", address])
    for node in ("n1", "n2"):
        status = lab.status(node)
        assert status["problems"] == []
        assert status["backend"]["stock_peers"] == ["laptop"]
    listed = hands(lab).tulle("n2", "wireguard", "peers").stdout
    assert laptop.public in listed
    assert "all nodes" in listed


def test_a_restart_of_tulled_is_nothing_to_a_stock_peer(
    lab: Lab, laptop: Laptop, eventually: Callable[..., Any]
) -> None:
    laptop.take(laptop.add())
    eventually(lambda: laptop.reaches("n1/p1") and laptop.reaches("n2/p1"))
    ping = ["ping", "-i", "0.02", "-c", "200", "-W", "3", "-q", ADDRESS]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lab.run, "n1/p1", ping)
        lab.kill_tulled("n1")
        lab.start_tulled("n1")
        lab.wait_ready()
        assert "200 packets transmitted, 200 received" in running.result().stdout


def test_a_peer_of_one_node_reaches_all_pods_by_that_node(
    lab: Lab, laptop: Laptop, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    text = laptop.add("--via", "n1")
    assert text.count("[Peer]") == 2
    assert "AllowedIPs = 10.42.0.0/16\n" in text
    laptop.take(text)
    eventually(lambda: laptop.reaches("n1/p1") and laptop.reaches("n2/p1"))
    lab.run("n2/p1", ["ping", "-c", "1", "-W", "5", ADDRESS])
    assert lab.status("n2")["backend"]["stock_peers"] == []
    assert hands(lab).tulle("n1", "wireguard", "peer-config", "laptop").stdout == text


def test_a_peer_that_was_removed_reaches_nobody_and_its_routes_are_gone(
    lab: Lab, laptop: Laptop, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    laptop.take(laptop.add())
    eventually(lambda: laptop.reaches("n1/p1"))
    assert any(one["destination"] == f"{ADDRESS}/32" for one in hands(lab).routes("n1"))
    hands(lab).tulle("n2", "wireguard", "remove-peer", "laptop")
    eventually(lambda: not any(one["destination"] == f"{ADDRESS}/32" for one in hands(lab).routes("n1")))
    eventually(lambda: not laptop.reaches("n1/p1"))
    assert lab.ping("n1/p1", "n2/p1", 3) == 3


def test_the_nodes_new_key_is_in_the_configuration_that_is_printed_then(
    lab: Lab, laptop: Laptop, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    laptop.take(laptop.add())
    eventually(lambda: laptop.reaches("n1/p1") and laptop.reaches("n2/p1"))
    hands(lab).tulle("n1", "wireguard", "rotate-key", "--grace", "600")
    assert laptop.reaches("n1/p1")  # by the old key
    text = hands(lab).tulle("n1", "wireguard", "peer-config", "laptop").stdout
    for key in lab.status("n1")["backend"]["public_keys"]:
        assert key in text
    laptop.take(text)
    eventually(lambda: laptop.reaches("n1/p1") and laptop.reaches("n2/p1"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--allowed-ips", "10.42.0.0/16"), "overlaps the subnet"),
        (("--allowed-ips", "192.0.2.0/24"), "which carries the tunnel itself"),
        (("--allowed-ips", "10.99.0.8/32", "--via", "n9"), "there is no node n9; there are: n1, n2"),
        (("--allowed-ips", "10.99.0.8/33"), "is no network"),
        (("--allowed-ips", "10.99.0.8", "--endpoint", "laptop:1"), "give one such as 192.0.2.1:51820"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    lab: Lab, laptop: Laptop, hands: Callable[[Lab], Any], words: tuple[str, ...], said: str
) -> None:
    before = hands(lab).tulle("n1", "wireguard", "peers", "-o", "json").stdout
    key = ("--public-key", laptop.run("wg", "pubkey", input=laptop.run("wg", "genkey")).strip())
    done = hands(lab).tulle("n1", "wireguard", "add-peer", "other", *key, *words, check=False)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())
    assert hands(lab).tulle("n1", "wireguard", "peers", "-o", "json").stdout == before


STORE = (sys.executable, str(Path(__file__).parent / "store.py"))
FLANNELS_SUBNET, FLANNELS_ADDRESS = "10.42.200.0-24", "10.42.200.1"


def test_a_flannel_node_is_a_peer_by_its_lease_and_nodes_are_by_theirs(
    lab: Lab, laptop: Laptop, eventually: Callable[..., Any]
) -> None:
    """wireguard-go in the place of the kernel's: a lease as flannel writes it, without a port and a member record, and
    peers made of our leases as flannel makes them."""
    interface = "wgflannel0"
    laptop.forget_routes()
    private = laptop.run("wg", "genkey").strip()
    public = laptop.run("wg", "pubkey", input=private).strip()
    lines = ["[Interface]", f"PrivateKey = {private}", "ListenPort = 51820"]
    for node in ("n1", "n2"):
        status = lab.status(node)
        (subnet,) = [one for one in status["subnets"] if ":" not in one]
        lines += ["[Peer]", f"PublicKey = {status['backend']['public_keys'][0]}", f"AllowedIPs = {subnet}"]
        lines.append(f"Endpoint = {lab.address(node, 4)}:51820")
    laptop.run("wireguard-go", interface)
    try:
        laptop.run("wg", "setconf", interface, "/dev/stdin", input="\n".join(lines) + "\n")
        laptop.run("ip", "address", "add", f"{FLANNELS_ADDRESS}/32", "dev", interface)
        laptop.run("ip", "link", "set", interface, "mtu", "1420", "up")
        laptop.run("ip", "route", "add", "10.42.0.0/16", "dev", interface, "src", FLANNELS_ADDRESS)
        lease = {
            "PublicIP": lab.address("switch", 4),
            "PublicIPv6": None,
            "BackendType": "wireguard",
            "BackendData": {"PublicKey": public},
        }
        lab.run("n1", [*STORE, "put", f"subnets/{FLANNELS_SUBNET}", json.dumps(lease)])
        eventually(lambda: any(one["key"] == FLANNELS_SUBNET for one in lab.status("n2")["peers"]))
        for pod in ("n1/p1", "n2/p1"):
            lab.run(pod, ["ping", "-c", "1", "-W", "5", FLANNELS_ADDRESS])
            assert lab.ping("switch", pod, family=4) == 1
        assert lab.status("n1")["problems"] == []
    finally:
        lab.run("n1", [*STORE, "delete", f"subnets/{FLANNELS_SUBNET}"])
        laptop.run("ip", "link", "delete", interface)
