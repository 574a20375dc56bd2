"""Which peers get a plain route, by which of their addresses, and what is said of filters in the way."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.backend import Peer, Underlay
from tulle.contracts.kernel import WantedRoute
from tulle.direct import direct_routes, filter_problems, is_adjacent

HERE = Underlay(
    "eth0",
    2,
    1500,
    {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")},
    {4: ip_address("198.51.100.1"), 6: ip_address("2001:db8::1")},
    "a test says so",
    (ip_network("192.0.2.0/25"), ip_network("2001:db8::/64")),
)
PODS = (ip_network("10.42.2.0/24"), ip_network("fd42:0:0:2::/64"))


def peer(*endpoints: str) -> Peer:
    return Peer("10.42.2.0-24&fd42:0:0:2::-64", "n2", PODS, tuple(map(ip_address, endpoints)), "vxlan")


def test_each_family_has_its_own_gateway() -> None:
    assert direct_routes(peer("192.0.2.2", "2001:db8::2"), HERE) == (
        WantedRoute(PODS[0], "eth0", "unicast", 0, gateway=ip_address("192.0.2.2")),
        WantedRoute(PODS[1], "eth0", "unicast", 0, gateway=ip_address("2001:db8::2")),
    )


@pytest.mark.parametrize(
    ("endpoints", "gateways"),
    [
        (("192.0.2.129", "2001:db8:1::2"), []),
        (("192.0.2.129", "2001:db8::2"), ["2001:db8::2"]),
        (("203.0.113.9", "192.0.2.2"), ["192.0.2.2"]),
        (("192.0.2.1",), []),
        ((), []),
    ],
)
def test_what_is_behind_a_router_or_is_ourselves_goes_by_the_tunnel(
    endpoints: tuple[str, ...], gateways: list[str]
) -> None:
    assert [str(one.gateway) for one in direct_routes(peer(*endpoints), HERE)] == gateways


@given(st.ip_addresses())
def test_adjacent_is_what_a_connected_network_holds_but_ourselves(address: object) -> None:
    inside = any(address in network for network in HERE.connected if network.version == address.version)  # type: ignore[attr-defined]
    ours = (*HERE.addresses.values(), *HERE.public.values())
    assert is_adjacent(address, HERE) == (inside and address not in ours)  # type: ignore[arg-type]


def test_a_strict_filter_is_named_with_the_command_that_mends_it() -> None:
    (found,) = filter_problems(["eth0.7"])
    assert (found.code, found.subject) == ("rp-filter-strict", "eth0.7")
    assert "sysctl -w net.ipv4.conf.eth0/7.rp_filter=2" in found.message
    assert filter_problems([]) == ()
