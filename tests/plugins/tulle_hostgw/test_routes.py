"""Which routes lead to a peer: by the right address, of the right family, and only where it is on the same link."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import msgspec
import pytest

from tulle.contracts.backend import Peer, Problem, Underlay
from tulle.contracts.kernel import WantedRoute
from tulle.net.prefix import subnet_key
from tulle_hostgw.routes import routes_to

HERE = Underlay(
    "eth0",
    2,
    1500,
    {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")},
    {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")},
    "a test says so",
    (ip_network("192.0.2.0/25"), ip_network("2001:db8::/64")),
)
POD_PREFIXES = {"4": "10.42.2.0/24", "6": "fd42:0:0:2::/64"}


def peer(endpoints: str, families: str = "4", backend: str = "host-gw") -> Peer:
    prefixes = tuple(ip_network(POD_PREFIXES[family]) for family in families)
    addresses = tuple(ip_address(one) for one in endpoints.split())
    return Peer(subnet_key(prefixes), "n2", prefixes, addresses, backend)


def gateways(found: object) -> list[str]:
    assert isinstance(found, tuple), found
    return [str(route.gateway) for route in found]


def test_each_subnet_gets_a_route_by_the_peers_address_of_its_family() -> None:
    found = routes_to(peer("192.0.2.2 2001:db8::2", "46"), HERE)
    assert found == (
        WantedRoute(ip_network("10.42.2.0/24"), "eth0", "unicast", 0, gateway=ip_address("192.0.2.2")),
        WantedRoute(ip_network("fd42:0:0:2::/64"), "eth0", "unicast", 0, gateway=ip_address("2001:db8::2")),
    )


@pytest.mark.parametrize(
    ("endpoints", "families", "expected"),
    [
        ("203.0.113.9 192.0.2.2", "4", ["192.0.2.2"]),
        ("192.0.2.3 192.0.2.2", "4", ["192.0.2.3"]),
        ("2001:db8::2 192.0.2.2", "4", ["192.0.2.2"]),
        ("192.0.2.2 2001:db8:9::2 2001:db8::2", "6", ["2001:db8::2"]),
    ],
)
def test_the_first_adjacent_address_of_the_family_is_the_gateway(
    endpoints: str, families: str, expected: list[str]
) -> None:
    assert gateways(routes_to(peer(endpoints, families), HERE)) == expected


@pytest.mark.parametrize(
    "endpoints", ["192.0.2.129", "203.0.113.1", "192.0.2.1"], ids=["half", "elsewhere", "ours"]
)
def test_a_peer_that_is_not_adjacent_is_refused_with_what_to_do(endpoints: str) -> None:
    found = routes_to(peer(endpoints), HERE)
    assert isinstance(found, Problem)
    assert (found.code, found.subject) == ("peer-not-adjacent", "n2")
    for words in (endpoints, "eth0 is connected to 192.0.2.0/25 alone", "10.42.2.0/24", "Use backend vxlan"):
        assert words in found.message


def test_of_two_families_both_must_be_adjacent() -> None:
    found = routes_to(peer("192.0.2.2 2001:db8:1::2", "46"), HERE)
    assert isinstance(found, Problem)
    assert "2001:db8:1::2 is not on the same link" in found.message


def test_a_link_without_a_network_of_the_family_is_said_to_have_none() -> None:
    found = routes_to(peer("192.0.2.2"), msgspec.structs.replace(HERE, connected=HERE.connected[1:]))
    assert isinstance(found, Problem)
    assert "eth0 has no IPv4 network" in found.message


@pytest.mark.parametrize("endpoints", ["", "2001:db8::2"])
def test_a_peer_without_an_address_of_the_family_is_refused(endpoints: str) -> None:
    found = routes_to(peer(endpoints), HERE)
    assert isinstance(found, Problem)
    assert found.code == "peer-no-endpoint"
    assert "no IPv4 address" in found.message


@pytest.mark.parametrize(("backend", "words"), [("", "names no backend"), ("vxlan", "says backend vxlan")])
def test_a_peer_of_another_backend_is_refused(backend: str, words: str) -> None:
    found = routes_to(peer("192.0.2.2", backend=backend), HERE)
    assert isinstance(found, Problem)
    assert found.code == "peer-backend-differs"
    assert words in found.message
