"""`tulle trace` and `tulle ping` in a lab: the way as it is, and where packets stop when something is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.registry import Registry

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab(registry: Registry) -> Iterator[Lab]:
    with Lab(nodes=2, pods=1, family="dual", registry=registry) as made:
        yield made


def tulle(lab: Lab, *words: str, node: str = "n1") -> subprocess.CompletedProcess[str]:
    return lab.run(node, [sys.executable, "-m", "tulle.cli.main", *words], check=False)


def traced(lab: Lab, destination: str, *words: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Steps and probe, with the exit status checked against them."""
    done = tulle(lab, "trace", destination, *words, "-o", "json")
    answer = json.loads(done.stdout)
    steps, probe = answer["steps"], answer["probe"]
    arrived = steps[-1]["ok"] and (probe is None or probe["arrived"])
    assert done.returncode == (0 if arrived else 1), done.stderr
    return steps, probe


def sh(lab: Lab, node: str, script: str) -> None:
    lab.run(node, ["sh", "-ec", script])


def absent_pod(lab: Lab, node: str) -> str:
    """An address of that node's subnet that no pod has."""
    return lab.address(f"{node}/p1", 4).rpartition(".")[0] + ".77"


@pytest.mark.parametrize("family", [4, 6])
def test_the_way_to_a_pod_of_another_node_is_told_step_by_step_and_a_probe_arrives(
    lab: Lab, family: int
) -> None:
    steps, probe = traced(lab, lab.address("n2/p1", family))
    assert [one["name"] for one in steps] == [
        "destination",
        "route",
        "tunnel",
        "peer",
        "encapsulation",
        "outer route",
        "MTU",
    ]
    assert all(one["ok"] for one in steps)
    by_name = {one["name"]: one for one in steps}
    assert "the subnet of n2" in by_name["destination"]["what"]
    assert "expires in" in by_name["destination"]["rule"]
    assert "dev tulle0" in by_name["route"]["rule"]
    assert by_name["peer"]["what"] == "n2, at 192.0.2.2"
    assert "28 bytes" in by_name["encapsulation"]["what"]
    assert "dev eth0" in by_name["outer route"]["rule"]
    assert "1472" in by_name["MTU"]["what"]
    assert probe is not None
    assert probe["arrived"]


def test_a_nodes_name_stands_for_its_tunnel_in_the_wanted_family(lab: Lab) -> None:
    for family, colon in (("-4", False), ("-6", True)):
        answer = json.loads(tulle(lab, "trace", "n2", family, "-o", "json").stdout)
        assert (":" in answer["address"]) is colon
        assert answer["probe"]["arrived"]


def test_a_pod_of_this_node_is_reached_by_the_bridge_alone(lab: Lab) -> None:
    steps, probe = traced(lab, lab.address("n1/p1", 4))
    assert [one["name"] for one in steps] == ["destination", "route", "bridge"]
    assert "cni0" in steps[-1]["what"]
    assert probe is not None
    assert probe["arrived"]


def test_an_address_that_no_lease_holds_stops_at_the_peer_and_nothing_is_sent(lab: Lab) -> None:
    steps, probe = traced(lab, "10.42.250.250")
    assert (steps[-1]["name"], steps[-1]["ok"]) == ("peer", False)
    assert probe is None


def test_an_address_outside_the_cluster_is_none_of_tulles_business(lab: Lab) -> None:
    steps, probe = traced(lab, "192.0.2.2")
    assert "outside the cluster" in steps[0]["what"]
    assert "tulle has no part" in steps[-1]["what"]
    assert probe is not None
    assert probe["arrived"]


def test_a_pod_that_is_not_there_stops_at_the_pod(lab: Lab) -> None:
    _, probe = traced(lab, absent_pod(lab, "n2"))
    assert probe is not None
    assert (probe["arrived"], probe["stopped_at"]) == (False, "pod")


def test_datagrams_that_the_other_node_drops_stop_at_the_engine_there(lab: Lab) -> None:
    sh(lab, "n2", "nft 'add table ip t; add chain ip t i { type filter hook input priority 0; }'")
    sh(lab, "n2", "nft add rule ip t i udp dport 8285 drop")
    try:
        _, probe = traced(lab, lab.address("n2/p1", 4))
    finally:
        sh(lab, "n2", "nft delete table ip t")
    assert probe is not None
    assert probe["stopped_at"] == "the engine there"


def test_a_node_that_is_cut_off_stops_at_the_underlay(lab: Lab) -> None:
    sh(
        lab,
        "n2",
        "nft 'add table ip t; add chain ip t i { type filter hook input priority 0; policy drop; }'",
    )
    try:
        _, probe = traced(lab, lab.address("n2/p1", 4))
    finally:
        sh(lab, "n2", "nft delete table ip t")
    assert probe is not None
    assert probe["stopped_at"] == "underlay"


def test_packets_that_a_firewall_here_drops_stop_at_this_node(lab: Lab) -> None:
    sh(lab, "n1", "nft 'add table ip t; add chain ip t o { type filter hook output priority 0; }'")
    sh(lab, "n1", "nft add rule ip t o oifname tulle0 drop")
    try:
        _, probe = traced(lab, lab.address("n2/p1", 4))
    finally:
        sh(lab, "n1", "nft delete table ip t")
    assert probe is not None
    assert probe["stopped_at"] == "this node"


def test_a_node_that_nobody_knows_is_an_error_that_names_those_there_are(lab: Lab) -> None:
    for words in (("trace", "n7"), ("ping", "n7")):
        done = tulle(lab, *words)
        assert done.returncode == 2
        assert "n2" in done.stderr


def test_node_and_pod_say_what_is_accepted_where_the_store_knows_no_pods(lab: Lab) -> None:
    done = tulle(lab, "trace", "n2/p1")
    assert done.returncode == 2
    assert "Say the pod's address" in done.stderr


PUT = """
import sys
from tulle.cli.store import find_store
from tulle.contracts.store import Delete, Put
from tulle.plugins import load_plugins

access = find_store(load_plugins(), {})
key, value = f"{access.prefix}/pods/default/web", sys.argv[1].encode()
access.run(lambda store: store.transact([], [Put(key, value) if value else Delete(key)]))
"""


def test_a_pod_is_known_by_name_where_the_store_has_a_record_of_it(lab: Lab) -> None:
    addresses = [{"ip": lab.address("n2/p1", family)} for family in (4, 6)]
    pod = {"metadata": {"name": "web"}, "spec": {"nodeName": "n2"}, "status": {"podIPs": addresses}}
    lab.run("n1", [sys.executable, "-c", PUT, json.dumps(pod)])
    try:
        for family, address in (("-4", addresses[0]), ("-6", addresses[1])):
            answer = json.loads(tulle(lab, "trace", "n2/web", family, "-o", "json").stdout)
            assert answer["address"] == address["ip"]
            assert answer["probe"]["arrived"]
        assert "none of the 1 pods" in tulle(lab, "trace", "n2/other").stderr
    finally:
        lab.run("n1", [sys.executable, "-c", PUT, ""])


def test_trace_and_ping_go_on_where_the_store_does_not_answer(lab: Lab) -> None:
    """tulled knows the peers; only what the store alone says is missing."""
    away = ("--etcd-endpoints", "http://127.0.0.1:1")
    steps, probe = traced(lab, lab.address("n2/p1", 4), *away)
    assert probe is not None
    assert probe["arrived"]
    assert steps[-1]["what"].startswith("not known: without the network config")
    assert tulle(lab, "ping", "n2", "-c", "1", *away).returncode == 0


def test_this_node_is_not_pinged(lab: Lab) -> None:
    done = tulle(lab, "ping", "n1")
    assert done.returncode == 2
    assert "n1 is this node" in done.stderr
    assert "The others are: n2" in done.stderr


def test_nobody_but_root_is_told_to_use_sudo(lab: Lab) -> None:
    """One message, not the ways in which each part of it failed."""
    command = [sys.executable, "-m", "tulle.cli.main"]
    for words in (["status"], ["leases"], ["doctor"], ["trace", "n2"], ["ping", "n2"], ["down"]):
        done = lab.run("n1", [*NOBODY, *command, *words], check=False)
        if "No module named" in done.stderr or done.returncode in (126, 127):
            pytest.skip("another user cannot read this checkout")
        assert (done.returncode, done.stdout) == (1, "")
        assert "only root may speak to tulled: use sudo" in done.stderr
        assert len(done.stderr.splitlines()) == 1


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_a_ping_goes_from_tunnel_to_tunnel_with_loss_and_times(lab: Lab, family: str) -> None:
    done = tulle(lab, "ping", "n2", family, "-c", "4", "-i", "0.05", "-s", "1000", "-o", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    subnets = lab.status("n1")["subnets"]
    assert answer["source"] in [one.partition("/")[0] for one in subnets]
    summary = answer["summary"]
    assert (summary["sent"], summary["received"], summary["loss_percent"]) == (4, 4, 0)
    assert 0 < summary["min_ms"] <= summary["avg_ms"] <= summary["max_ms"] < 1000


def test_a_ping_counts_what_is_lost_and_ends_with_status_1(lab: Lab) -> None:
    sh(
        lab,
        "n2",
        "nft 'add table ip t; add chain ip t i { type filter hook input priority 0; policy drop; }'",
    )
    try:
        done = tulle(lab, "ping", "n2", "-c", "2", "-i", "0.05")
    finally:
        sh(lab, "n2", "nft delete table ip t")
    assert done.returncode == 1
    assert "2 sent, 0 answered, 100 % lost" in done.stdout
    assert "tulle trace" in done.stdout


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_the_mtu_search_finds_the_tunnels_whole_mtu(lab: Lab, family: str) -> None:
    answer = json.loads(tulle(lab, "ping", "n2", family, "--mtu", "-o", "json").stdout)
    assert (answer["tunnel_mtu"], answer["fits"]) == (1472, 1472)


def test_the_mtu_search_finds_a_smaller_way(lab: Lab) -> None:
    """Datagrams of more than 1,300 bytes vanish on the way: an inner packet of 1,272 is the longest that passes."""
    sh(lab, "n2", "nft 'add table ip t; add chain ip t p { type filter hook prerouting priority 0; }'")
    sh(lab, "n2", "nft add rule ip t p iifname eth0 meta length gt 1300 drop")
    try:
        done = tulle(lab, "ping", "n2", "-4", "--mtu", "-o", "json")
    finally:
        sh(lab, "n2", "nft delete table ip t")
    answer = json.loads(done.stdout)
    assert (answer["tunnel_mtu"], answer["fits"]) == (1472, 1272)


def test_after_a_dead_tunnel_the_trace_names_the_route_that_refuses(registry: Registry) -> None:
    with Lab(nodes=2, pods=1, registry=registry) as lab:
        target = lab.address("n2/p1")
        lab.kill_tulled("n1")
        lab.kill_forwarder("n1")
        steps, probe = traced(lab, target)
        assert (steps[-1]["name"], steps[-1]["ok"]) == ("route", False)
        assert "unreachable 10.42.0.0/16" in steps[-1]["rule"]
        assert probe is None


def test_each_of_two_devices_is_a_tunnel_and_the_doctor_looks_at_both(registry: Registry) -> None:
    with Lab(nodes=2, pods=1, family="dual", backend="wireguard", registry=registry) as made:
        for family, device, port in ((4, "tulle-wg", 51820), (6, "tulle-wg-v6", 51821)):
            steps, probe = traced(made, made.address("n2/p1", family))
            by_name = {one["name"]: one for one in steps}
            assert f"{device} (up, MTU 1420): read by the forwarder" in by_name["tunnel"]["what"]
            assert f"over IPv{family}, to port {port}/udp" in by_name["encapsulation"]["what"]
            assert probe is not None
            assert probe["arrived"]
        words = [word for check in ("port", "mtu", "wireguard-sockets") for word in ("--check", check)]
        found = json.loads(tulle(made, "doctor", *words, "-o", "json").stdout)["findings"]
        subjects = {one["subject"] for one in found}
        assert {"port 51820/udp", "port 51821/udp", "tulle-wg", "tulle-wg-v6"} <= subjects
        assert {one["severity"] for one in found} == {"ok"}
