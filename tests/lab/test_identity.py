"""Who has which subnet, with a real etcd: machines behind one address, flannel's leases, an address that changes.

Reinstalled machines and two of one name: `test_restarts.py`.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.registry import Registry
from tulle.testing.etcd import find_etcd

pytestmark = [pytest.mark.lab, pytest.mark.etcd, pytest.mark.xdist_group("lab-identity")]

PREFIX = "/coreos.com/network"
DAY_S = 86_400


@pytest.fixture
def lab(registry: Registry, etcd_here: Path) -> Iterator[Lab]:
    with Lab(nodes=3, pods=1, store="etcd", registry=registry) as lab:
        yield lab


def etcdctl(lab: Lab, *words: str) -> str:
    folder = find_etcd()
    assert folder is not None
    command = ["env", "ETCDCTL_API=3", str(folder / "etcdctl"), f"--endpoints={lab.plan.etcd_endpoint()}"]
    return lab.run("switch", [*command, *words]).stdout


def leases(lab: Lab) -> dict[str, dict[str, Any]]:
    """What flannel would read: key below subnets/ -> value."""
    lines = etcdctl(lab, "get", "--prefix", f"{PREFIX}/subnets/").splitlines()
    return {
        key.rpartition("/")[2]: json.loads(value) for key, value in zip(lines[::2], lines[1::2], strict=True)
    }


def subnet(lab: Lab, node: str) -> str:
    (found,) = lab.status(node)["subnets"]
    return str(found)


def created(lab: Lab, prefix: str) -> tuple[int, int]:
    """Revision at which a subnet's key came into being, and its etcd lease: both stay while it is updated in place."""
    key = f"{PREFIX}/subnets/{prefix.replace('/', '-')}"
    (kv,) = json.loads(etcdctl(lab, "get", key, "-w", "json"))["kvs"]
    return kv["create_revision"], kv["lease"]


def restart(lab: Lab, node: str, *words: str) -> None:
    lab.kill_tulled(node, signal.SIGTERM)
    lab.start_tulled(node, words)


def test_two_nodes_behind_one_public_address_keep_their_subnets_apart(lab: Lab) -> None:
    """As behind a NAT: flannel would give the second node the lease of the first."""
    before = {node: subnet(lab, node) for node in lab.plan.node_names}
    for node in ("n1", "n2"):
        restart(lab, node, "--public-ip", "198.51.100.1")
        lab.wait_ready()
    assert {node: subnet(lab, node) for node in lab.plan.node_names} == before
    for _ in range(2):  # also where both come up at once, in either order
        for node in ("n2", "n1"):
            lab.kill_tulled(node)
        for node in ("n1", "n2"):
            lab.start_tulled(node, ["--public-ip", "198.51.100.1"])
        lab.wait_ready()
    assert {node: subnet(lab, node) for node in lab.plan.node_names} == before
    # One of them forgets what it was and has to take a lease as if for the first time: not the neighbour's.
    lab.kill_tulled("n2", signal.SIGTERM)
    etcdctl(lab, "del", f"{PREFIX}/subnets/{before['n2'].replace('/', '-')}")
    etcdctl(lab, "del", f"{PREFIX}/members/n2")
    lab.run("n2", ["rm", "-rf", "/run/flannel/subnet.env", "/var/lib/tulle/id"])
    lab.start_tulled("n2", ["--public-ip", "198.51.100.1"])
    lab.wait_ready()
    assert subnet(lab, "n1") == before["n1"]
    assert subnet(lab, "n2") != before["n1"]
    public = [value["PublicIP"] for value in leases(lab).values()]
    assert sorted(public) == ["192.0.2.3", "198.51.100.1", "198.51.100.1"]


def test_a_lease_that_flannel_left_on_this_machine_is_taken_over(lab: Lab) -> None:
    lab.kill_tulled("n1", signal.SIGTERM)
    old = subnet(lab, "n2")
    etcdctl(lab, "del", "--prefix", f"{PREFIX}/members/n1")
    for key, value in leases(lab).items():
        if value["PublicIP"] == "192.0.2.1":
            etcdctl(lab, "del", f"{PREFIX}/subnets/{key}")
    lab.run("n1", ["rm", "-rf", "/run/flannel/subnet.env", "/var/lib/tulle/id"])
    granted = etcdctl(lab, "lease", "grant", str(DAY_S)).split()[1]
    flannels = '{"PublicIP":"192.0.2.1","PublicIPv6":null}'
    etcdctl(lab, "put", f"--lease={granted}", f"{PREFIX}/subnets/10.42.200.0-24", flannels)
    lab.start_tulled("n1")
    lab.wait_ready()
    assert subnet(lab, "n1") == "10.42.200.0/24"
    assert leases(lab)["10.42.200.0-24"] == json.loads(flannels)
    assert subnet(lab, "n2") == old
    # Flannel's own grant does not end it any more: it is tulle's now.
    etcdctl(lab, "lease", "revoke", granted)
    time.sleep(1.0)
    assert "10.42.200.0-24" in leases(lab)
    assert subnet(lab, "n1") == "10.42.200.0/24"


def test_a_flannel_lease_of_another_machine_is_left_alone(lab: Lab) -> None:
    """A second node that says the same public address as a neighbour with flannel, by a record of tulle's own."""
    granted = etcdctl(lab, "lease", "grant", str(DAY_S)).split()[1]
    value = '{"PublicIP":"192.0.2.99","PublicIPv6":null}'
    etcdctl(lab, "put", f"--lease={granted}", f"{PREFIX}/subnets/10.42.201.0-24", value)
    mine = subnet(lab, "n1")
    restart(lab, "n1", "--public-ip", "192.0.2.99")  # it has a lease of its own already, and keeps it
    lab.wait_ready()
    assert subnet(lab, "n1") == mine
    assert leases(lab)["10.42.201.0-24"] == json.loads(value)


def test_a_public_address_that_changes_is_told_in_place_and_the_peers_follow(
    lab: Lab,
    hands: Callable[[Lab], Any],
    eventually: Callable[..., Any],
    say: Callable[[str, object], None],
) -> None:
    """As a cloud machine that is given another address: `eth0` of n1 loses one and gets another."""
    mine, birth = subnet(lab, "n1"), created(lab, subnet(lab, "n1"))
    forwarder = lab.forwarder_pid("n1")
    # The old one first: with a primary address the kernel takes the others of its subnet away, too.
    hands(lab).kernel(
        "n1",
        ("addr", "delete", {"link": "eth0", "address": "192.0.2.1", "prefixlen": 24}),
        ("addr", "add", {"link": "eth0", "address": "192.0.2.101", "prefixlen": 24}),
    )
    changed = time.monotonic()
    eventually(lambda: lab.status("n1")["underlay"]["public"] == ["192.0.2.101"])

    def seen_by(node: str) -> list[str]:
        (found,) = [one["endpoints"] for one in lab.status(node)["peers"] if one["node"] == "n1"]
        return list(found)

    for node in ("n2", "n3"):
        eventually(lambda node=node: seen_by(node) == ["192.0.2.101"])
    say("peers-follow-after-s", round(time.monotonic() - changed, 2))
    assert time.monotonic() - changed < 10.0
    eventually(lambda: lab.ping("n2/p1", "n1/p1") == 1 and lab.ping("n1/p1", "n3/p1") == 1)
    assert (subnet(lab, "n1"), created(lab, mine)) == (mine, birth)
    assert leases(lab)[mine.replace("/", "-")]["PublicIP"] == "192.0.2.101"
    member = json.loads(etcdctl(lab, "get", "--print-value-only", f"{PREFIX}/members/n1"))
    assert "192.0.2.101" in json.dumps(member)
    assert '192.0.2.1"' not in json.dumps(member)
    assert lab.forwarder_pid("n1") == forwarder


def test_sigterm_gives_the_name_back_and_keeps_the_lease(lab: Lab) -> None:
    """So that a machine that is installed anew at once need not wait for its former self."""
    mine, birth, forwarder = subnet(lab, "n1"), created(lab, subnet(lab, "n1")), lab.forwarder_pid("n1")
    alive = ("get", "--keys-only", "--prefix", f"{PREFIX}/alive/")
    assert f"{PREFIX}/alive/n1" in etcdctl(lab, *alive).split()
    lab.kill_tulled("n1", signal.SIGTERM)
    assert f"{PREFIX}/alive/n1" not in etcdctl(lab, *alive).split()
    assert mine.replace("/", "-") in leases(lab)
    assert lab.ping("n2/p1", "n1/p1", 3) == 3
    lab.start_tulled("n1")
    lab.wait_ready()
    assert (subnet(lab, "n1"), created(lab, mine)) == (mine, birth)
    assert lab.forwarder_pid("n1") == forwarder
    # The same machine installed anew, at once:
    lab.kill_tulled("n1", signal.SIGTERM)
    lab.run("n1", ["rm", "-rf", "/var/lib/tulle/id"])
    begun = time.monotonic()
    lab.start_tulled("n1")
    lab.wait_ready()
    assert time.monotonic() - begun < 10.0  # and not after 30 s
    assert subnet(lab, "n1") == mine
    assert "name-held" not in lab.logs("n1")


def test_the_counters_are_there_as_soon_as_a_restarted_tulled_is_ready(
    lab: Lab, eventually: Callable[..., Any]
) -> None:
    assert lab.ping("n1/p1", "n2/p1", 5) == 5
    eventually(lambda: lab.status("n1")["dataplane"]["counters"].get("packets-out", 0) >= 5)
    restart(lab, "n1")
    lab.wait_ready()
    status = lab.status("n1")
    assert status["dataplane"]["counters"]["packets-out"] >= 5
    (traffic,) = [one["traffic"] for one in status["peers"] if one["node"] == "n2"]
    assert traffic["packets_out"] >= 5
