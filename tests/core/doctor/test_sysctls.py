"""Forwarding and reverse path filters."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network

import pytest

from tulle.contracts.doctor import DoctorContext
from tulle.doctor.sysctls import (
    Arrival,
    arrivals,
    dotted,
    judge_direct,
    judge_forwarding,
    judge_reverse_path,
    reverse_path,
)
from tulle.kernel.state import Way
from tulle.lab.namespaces import CLONE_NEWNET, unshare

ARRIVAL = Arrival("tulle0", ip_address("10.42.2.0"), "pods of n2")


def test_each_sysctl_that_is_off_has_its_own_command() -> None:
    found = judge_forwarding(
        {
            "net/ipv4/ip_forward": "0",
            "net/ipv6/conf/all/forwarding": "1",
            "net/ipv4/conf/eth0.7/forwarding": "0",
        }
    )
    assert [one.mend for one in found] == [
        "sysctl -w net.ipv4.ip_forward=1",
        "sysctl -w net.ipv4.conf.eth0/7.forwarding=1",
    ]
    assert {one.severity for one in found} == {"error"}


def test_forwarding_that_is_on_is_ok_and_a_missing_interface_does_not_matter() -> None:
    (found,) = judge_forwarding({"net/ipv4/ip_forward": "1", "net/ipv4/conf/tulle0/forwarding": None})
    assert found.severity == "ok"


def test_a_kernel_without_the_family_is_an_error_and_unknown_networks_are_skipped() -> None:
    assert judge_forwarding({"net/ipv6/conf/all/forwarding": None})[0].severity == "error"
    assert judge_forwarding({})[0].severity == "skipped"


def test_a_dot_in_an_interfaces_name_is_written_as_sysctl_takes_it() -> None:
    assert dotted("net/ipv4/conf/eth0.7/rp_filter") == "net.ipv4.conf.eth0/7.rp_filter"


def test_peers_come_in_by_the_underlay_and_their_pods_by_the_tunnel(
    make_context: Callable[..., DoctorContext],
) -> None:
    found = arrivals(make_context())
    assert [(one.link, str(one.source)) for one in found] == [("eth0", "192.0.2.2"), ("tulle0", "10.42.2.0")]
    assert [one.link for one in arrivals(make_context(device=""))] == ["eth0"]
    assert arrivals(make_context(peers=())) == []
    six = (
        make_context().peers[0].__class__("k", "n3", (ip_network("fd00::/64"),), (ip_address("fd01::1"),), "")
    )
    assert arrivals(make_context(peers=(six,))) == []  # IPv6 has no such filter


def test_a_strict_filter_drops_where_the_way_back_leads_elsewhere() -> None:
    (found,) = judge_reverse_path(
        [(ARRIVAL, Way("unicast", "eth0", rule='"10.42.2.0/24 dev eth0"'))], {"tulle0": 1}
    )
    assert (found.severity, found.subject) == ("error", "tulle0")
    assert "10.42.2.0/24 dev eth0" in found.what
    assert found.mend.startswith("sysctl -w net.ipv4.conf.tulle0.rp_filter=2")
    (lost,) = judge_reverse_path([(ARRIVAL, Way("none"))], {"tulle0": 1})
    assert "nowhere" in lost.what


def test_a_strict_filter_with_the_right_way_back_is_ok() -> None:
    (found,) = judge_reverse_path([(ARRIVAL, Way("unicast", "tulle0"))], {"tulle0": 1, "eth0": 0})
    assert found.severity == "ok"
    assert "tulle0: strict" in found.what


def test_pods_come_in_by_those_of_the_tunnels_devices_that_have_ipv4(
    make_context: Callable[..., DoctorContext],
) -> None:
    ctx = make_context(device="wg-v6", devices=("wg-v6", "wg"))
    assert [one.link for one in arrivals(ctx, ["lo", "wg", "eth0"])] == ["eth0", "wg"]
    assert [one.link for one in arrivals(ctx, ["wg", "wg-v6"])] == ["eth0", "wg-v6", "wg"]


def test_with_direct_routing_a_strict_filter_on_either_way_is_said(
    make_context: Callable[..., DoctorContext],
) -> None:
    direct = make_context(status={"backend": {"direct_routing": True, "direct_peers": 1}})
    (found,) = judge_direct(direct, ["eth0"])
    assert (found.severity, found.subject) == ("warning", "eth0")
    assert found.mend.startswith("sysctl -w net.ipv4.conf.eth0.rp_filter=2")
    assert judge_direct(direct, []) == []
    for status in (None, {"backend": {"direct_routing": True, "direct_peers": 0}}, {}):
        assert judge_direct(make_context(status=status), ["eth0"]) == []


DIRECT = """
ip link add eth0 type veth peer name there0
ip link add tulle0 type veth peer name there1
ip address add 192.0.2.1/24 dev eth0
ip address add 10.42.1.0/32 dev tulle0
ip link set eth0 up
ip link set tulle0 up
ip link set there0 up
ip link set there1 up
ip route add 10.42.0.0/16 dev tulle0
ip route add 10.42.2.0/24 via 192.0.2.2
for one in all eth0 tulle0; do echo 0 > /proc/sys/net/ipv4/conf/$one/rp_filter; done
echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter
"""


def test_a_node_with_plain_routes_and_a_strict_underlay_is_told(
    make_context: Callable[..., DoctorContext],
) -> None:
    direct = make_context(
        devices=("tulle0",), status={"backend": {"direct_routing": True, "direct_peers": 1}}
    )
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(unshare, CLONE_NEWNET).result()
        except PermissionError:
            pytest.skip("needs root: a thread cannot make a network namespace otherwise")
        thread.submit(subprocess.run, ["sh", "-ec", DIRECT], check=True, timeout=30).result()
        found = thread.submit(asyncio.run, reverse_path(direct)).result()
        assert [(one.severity, one.subject) for one in found] == [("warning", "eth0")]
        found = thread.submit(asyncio.run, reverse_path(make_context(devices=("tulle0",)))).result()
        assert [(one.severity, one.subject) for one in found] == [("ok", "rp_filter")]
