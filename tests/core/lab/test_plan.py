"""Names and addresses."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.lab.errors import LabError
from tulle.lab.plan import (
    CLUSTER,
    MAX_NODES,
    MAX_PODS,
    SWITCH_HOST,
    NodeNet,
    Place,
    Plan,
    parse_place,
    parse_subnet_env,
)

DUAL_ENV = """FLANNEL_NETWORK=10.42.0.0/16
FLANNEL_SUBNET=10.42.7.1/24
FLANNEL_IPV6_NETWORK=fd42::/48
FLANNEL_IPV6_SUBNET=fd42:0:0:7::1/64
FLANNEL_MTU=1452
FLANNEL_IPMASQ=false
"""


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("n1", Place("n1")),
        ("n1/p2", Place("n1", "p2")),
        ("switch", Place()),
        ("", Place()),
    ],
)
def test_a_place_is_a_node_a_pod_or_the_switch(text: str, place: Place) -> None:
    assert parse_place(text) == place
    assert parse_place(place.label) == place


@pytest.mark.parametrize("text", ["/p1", "n1/", "n1/p1/x", "/"])
def test_what_is_no_place_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(LabError, match="n1/p1 for a pod"):
        parse_place(text)


def test_a_place_that_the_lab_does_not_have_is_refused_with_those_it_has() -> None:
    plan = Plan(name="x", nodes=2, pods=1)
    plan.check_place(Place("n2", "p1"))
    with pytest.raises(LabError, match=r"no node 'n3'.*n1, n2"):
        plan.check_place(Place("n3"))
    with pytest.raises(LabError, match=r"n1 has no pod 'p2'.*p1"):
        plan.check_place(Place("n1", "p2"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"nodes": 0}, "--nodes"), ({"nodes": MAX_NODES + 1}, "--nodes"), ({"pods": MAX_PODS + 1}, "--pods")],
)
def test_a_lab_that_does_not_fit_its_addresses_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        Plan(name="x", **wrong).check()


def test_the_underlay_never_gives_one_address_twice_or_the_broadcast_address() -> None:
    plan = Plan(name="x", nodes=MAX_NODES, family="dual")
    found = [plan.underlay(SWITCH_HOST), *(plan.node_underlay(node) for node in plan.node_names)]
    addresses = [interface.ip for interfaces in found for interface in interfaces]
    assert len(set(addresses)) == 2 * (MAX_NODES + 1)
    assert ip_network("192.0.2.0/24").broadcast_address not in addresses


def test_subnet_env_says_where_bridge_and_pods_are() -> None:
    net = parse_subnet_env(DUAL_ENV)
    assert net == NodeNet(("10.42.7.1/24", "fd42:0:0:7::1/64"), 1452)
    assert net.pod(0) == [ip_interface("10.42.7.1/24"), ip_interface("fd42:0:0:7::1/64")]
    assert net.pod(2) == [ip_interface("10.42.7.3/24"), ip_interface("fd42:0:0:7::3/64")]


@given(number=st.integers(1, MAX_PODS), subnet=st.integers(0, 255))
def test_every_pod_lies_in_its_nodes_subnet_and_is_neither_bridge_nor_broadcast(
    number: int, subnet: int
) -> None:
    net = NodeNet((f"10.42.{subnet}.1/24",), 1500)
    pod = net.pod(number)[0]
    assert pod.network == ip_network(f"10.42.{subnet}.0/24")
    assert pod.ip not in {pod.network.network_address, pod.network.broadcast_address, net.pod(0)[0].ip}


@pytest.mark.parametrize("missing", ["FLANNEL_MTU", "SUBNET"])
def test_a_subnet_env_that_is_not_whole_is_no_subnet_env(missing: str) -> None:
    text = "\n".join(line for line in DUAL_ENV.splitlines() if missing not in line)
    with pytest.raises(ValueError, match=missing):
        parse_subnet_env(text)


@pytest.mark.parametrize(("family", "versions"), [("4", {4}), ("6", {6}), ("dual", {4, 6})])
def test_the_given_subnets_are_disjoint_parts_of_the_cluster_network(family: str, versions: set[int]) -> None:
    plan = Plan(name="x", nodes=MAX_NODES, family=family)  # type: ignore[arg-type]
    subnets = [ip_interface(text).network for net in plan.given_nets().values() for text in net.gateways]
    assert {subnet.version for subnet in subnets} == versions
    assert len(set(subnets)) == MAX_NODES * len(versions)
    for subnet in subnets:
        assert subnet.subnet_of(ip_network(CLUSTER[subnet.version]))  # type: ignore[arg-type]


def test_the_network_config_has_the_families_and_the_backends_options() -> None:
    config = Plan(name="x", family="6", backend="vxlan", backend_options={"VNI": 7}).network_config()
    assert config["EnableIPv4"] is False
    assert config["IPv6Network"] == CLUSTER[6]
    assert "Network" not in config
    assert config["Backend"] == {"Type": "vxlan", "VNI": 7}


def test_tulleds_command_line_ends_with_the_arguments_of_the_lab() -> None:
    plan = Plan(name="x", family="6", store="etcd", tulled_args=["-v", "2"])
    command = plan.tulled_command("n2", ["tulled"])
    assert command[:3] == ["tulled", "--node-name", "n2"]
    assert "--config-file=" in command  # not the one of this machine
    assert command[-2:] == ["-v", "2"]
    assert "http://[2001:db8::fe]:2379" in command


def test_a_plan_survives_being_written_down() -> None:
    plan = Plan(name="x", family="dual", backend_options={"Port": 1}, tulled_args=["-v=3"])
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
