"""Forwarding and reverse path filters."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network

from tulle.contracts.doctor import DoctorContext
from tulle.doctor.sysctls import Arrival, arrivals, dotted, judge_forwarding, judge_reverse_path
from tulle.kernel.state import Way

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
