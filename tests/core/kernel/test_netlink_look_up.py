"""Looking at routes: all of them, and the way to one address. The witness is iproute2."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from tulle.kernel.netlink import Netlink
from tulle.kernel.state import RTPROT_TULLE, SeenRoute, Way


async def way(text: str) -> Way:
    async with Netlink() as netlink:
        return await netlink.way(ip_address(text))


async def routes() -> list[SeenRoute]:
    async with Netlink() as netlink:
        return await netlink.routes()


@pytest.fixture
def wired(netns: Any) -> Any:
    netns.ip("link add d0 type veth peer name d1")
    for words in (
        "link set d0 up",
        "link set d1 up",
        "addr add 192.0.2.1/24 dev d0",
        "addr add 2001:db8::1/64 dev d0 nodad",
        f"route add 10.42.0.0/16 dev d0 proto {RTPROT_TULLE}",
        f"route add unreachable 10.43.0.0/16 metric 1000000 proto {RTPROT_TULLE}",
        "route add 10.44.0.0/16 via 192.0.2.9",
        "-6 route add fd44::/32 via 2001:db8::9",
    ):
        netns.ip(words)
    return netns


def test_a_way_names_link_source_and_the_route_that_decides(wired: Any) -> None:
    found = wired.run(way("10.42.1.2"))
    assert (found.kind, found.link, found.gateway, str(found.source)) == ("unicast", "d0", None, "192.0.2.1")
    assert found.rule == '"10.42.0.0/16 dev d0" (proto tulle)'


@pytest.mark.parametrize(("to", "gateway"), [("10.44.0.1", "192.0.2.9"), ("fd44::1", "2001:db8::9")])
def test_a_way_by_a_gateway_names_it(wired: Any, to: str, gateway: str) -> None:
    assert str(wired.run(way(to)).gateway) == gateway


@pytest.mark.parametrize("to", ["10.43.0.1", "203.0.113.1", "fd99::1"])
def test_where_no_route_leads_or_one_refuses_there_is_no_way(wired: Any, to: str) -> None:
    assert wired.run(way(to)) == Way("none")


def test_an_address_of_our_own_is_local(wired: Any) -> None:
    assert wired.run(way("192.0.2.1")).kind == "local"


def test_all_routes_of_the_main_table_are_listed_with_who_made_them(wired: Any) -> None:
    found = {(str(one.route.destination), one.protocol): one.route for one in wired.run(routes())}
    assert found["10.42.0.0/16", RTPROT_TULLE].link == "d0"
    assert found["10.43.0.0/16", RTPROT_TULLE].kind == "unreachable"
    assert ("192.0.2.0/24", 2) in found
    assert {str(one["dst"]) for one in wired.json("route show")} <= {
        name for destination, _ in found for name in (destination, destination.removesuffix("/32"))
    }
