"""The kernel's own answers, in a network namespace, to what --iface-can-reach asks."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import pytest

from tulle.contracts.backend import Underlay
from tulle.kernel.netlink import Netlink
from tulle.kernel.underlay import NoUnderlay, Surroundings, Wish, choose
from tulle.net.prefix import Family

pytestmark = pytest.mark.lab


@pytest.fixture
def two_uplinks(netns: Any) -> Any:
    """up0 has the default routes, up1 a route to one network of each family."""
    for name, v4, v6 in (
        ("up0", "192.0.2.2/24", "2001:db8:a::2/64"),
        ("up1", "198.51.100.2/24", "2001:db8:b::2/64"),
    ):
        netns.ip(f"link add {name} type veth peer name peer-{name}")
        for one in (name, f"peer-{name}"):
            netns.ip(f"link set {one} up")
        netns.ip(f"address add {v4} dev {name}")
        netns.ip(f"address add {v6} dev {name} nodad")
    netns.ip("route add default via 192.0.2.1")
    netns.ip("-6 route add default via 2001:db8:a::1")
    netns.ip("route add 203.0.113.0/24 via 198.51.100.1")
    netns.ip("-6 route add 2001:db8:c::/48 via 2001:db8:b::1")
    return netns


def look(netns: Any, *reach: str) -> Surroundings:
    async def once() -> Surroundings:
        async with Netlink() as kernel:
            return await kernel.surroundings([ip_address(one) for one in reach])

    seen: Surroundings = netns.run(once())
    return seen


def pick(netns: Any, address: str, *needed: Family) -> Underlay:
    wish = Wish(can_reach=(ip_address(address),))
    return choose(wish, {}, needed, look(netns, address))


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("203.0.113.9", "up1"),
        ("2001:db8:c::9", "up1"),
        ("8.8.8.8", "up0"),
        ("2001:db8:d::9", "up0"),
        ("198.51.100.77", "up1"),
    ],
)
def test_the_interface_is_the_one_that_ip_route_get_names(two_uplinks: Any, address: str, link: str) -> None:
    (witness,) = two_uplinks.json(f"route get {address}")
    found = pick(two_uplinks, address, 4, 6)
    assert (found.link, witness["dev"]) == (link, link)
    assert witness["prefsrc"] in {str(one) for one in found.addresses.values()}
    assert set(found.addresses) == {4, 6}


def test_the_source_that_the_kernel_would_take_is_the_nodes_address(two_uplinks: Any) -> None:
    two_uplinks.ip("address add 198.51.100.3/24 dev up1")
    two_uplinks.ip("route replace 203.0.113.0/24 via 198.51.100.1 src 198.51.100.3")
    assert pick(two_uplinks, "203.0.113.9", 4).addresses == {4: ip_address("198.51.100.3")}


@pytest.mark.parametrize("route", ["unreachable", "blackhole", "prohibit"])
def test_where_there_is_no_way_that_is_said(two_uplinks: Any, route: str) -> None:
    two_uplinks.ip(f"route replace {route} 203.0.113.0/24")
    with pytest.raises(NoUnderlay, match=r"there is no way to 203\.0\.113\.9"):
        pick(two_uplinks, "203.0.113.9", 4)


def test_an_address_of_this_node_leads_nowhere(two_uplinks: Any) -> None:
    with pytest.raises(NoUnderlay, match="or it is this node's own"):
        pick(two_uplinks, "192.0.2.2", 4)


def test_nothing_is_sent_when_the_kernel_is_asked(two_uplinks: Any) -> None:
    """A packet to a neighbour that nobody knows would leave an entry behind, answered or not."""
    for address in ("203.0.113.9", "198.51.100.77", "8.8.8.8"):
        pick(two_uplinks, address, 4)
    assert two_uplinks.json("-4 neighbour show") == []
    two_uplinks.call(_send, "198.51.100.77")
    assert [one["dst"] for one in two_uplinks.json("-4 neighbour show")] == ["198.51.100.77"]


def _send(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", (address, 9))  # discard, RFC 863
