"""Comparing two wishes leads to the same changes as comparing the second with a kernel that has the first."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.kernel import VxlanFacts
from tulle.kernel.settled import Settled
from tulle.kernel.state import (
    ALIAS,
    Seen,
    SeenLink,
    Wanted,
    WantedAddress,
    WantedFdb,
    WantedLink,
    WantedNeighbour,
    WantedRoute,
    WantedVxlan,
    diff,
)

HERE, MAC = ip_address("192.0.2.1"), "02:00:00:00:00:01"
DEVICE = WantedLink("flannel.1", 1450, None, vxlan=WantedVxlan(1, 8472, "eth0", HERE, MAC))
FACTS = VxlanFacts(1, 8472, 2, HERE, False, False, 0, False)
LINKS = {
    "flannel.1": SeenLink("flannel.1", 7, 1450, 1000, True, ALIAS, MAC, FACTS),
    "eth0": SeenLink("eth0", 2, 1500, 1000, True),
}
NEAR = [ip_address(text) for text in ("10.42.2.0", "10.42.3.0", "fd42::2")]
MACS = [f"02:00:00:00:00:{number:02x}" for number in range(2, 6)]
OUTER = [ip_address(f"192.0.2.{number}") for number in range(2, 5)]

routes = st.builds(
    lambda near, link: WantedRoute(ip_network(near), link, "unicast", 0, gateway=near, onlink=True),
    st.sampled_from(NEAR),
    st.sampled_from(sorted(LINKS)),
)
neighbours = st.builds(WantedNeighbour, st.just("flannel.1"), st.sampled_from(NEAR), st.sampled_from(MACS))
fdb = st.builds(WantedFdb, st.just("flannel.1"), st.sampled_from(MACS), st.sampled_from(OUTER))
wishes = st.builds(
    lambda a, b, c: Wanted((DEVICE,), (), tuple(a), tuple(b), tuple(c)),
    st.lists(routes, unique_by=lambda one: one.slot),
    st.lists(neighbours, unique_by=lambda one: one.slot),
    st.lists(fdb, unique_by=lambda one: one.slot),
)


@given(wishes, wishes)
def test_the_short_way_makes_the_changes_that_the_long_way_makes(first: Wanted, second: Wanted) -> None:
    difference = Settled(first, LINKS).difference(second)
    assert difference is not None
    short = diff(*difference)
    long = diff(second, Seen(LINKS, (), first.routes, {}, first.neighbours, first.fdb))
    assert set(short.actions) == set(long.actions)
    assert short.problems == long.problems == ()


@pytest.mark.parametrize(
    "change",
    [
        {"links": (msgspec.structs.replace(DEVICE, mtu=1400),)},
        {"addresses": (WantedAddress("flannel.1", ip_interface("10.42.1.0/32")),)},
        {"partial": True},
    ],
)
def test_where_more_than_entries_differ_only_a_look_tells(change: dict[str, object]) -> None:
    first = Wanted((DEVICE,))
    assert Settled(first, LINKS).difference(msgspec.structs.replace(first, **change)) is None


def test_a_link_that_was_not_looked_at_is_a_problem_and_so_asks_for_a_look() -> None:
    route = WantedRoute(ip_network("10.42.9.0/24"), "eth9", "unicast", 0, gateway=OUTER[0])
    difference = Settled(Wanted((DEVICE,)), LINKS).difference(Wanted((DEVICE,), (), (route,)))
    assert difference is not None
    assert [one.code for one in diff(*difference).problems] == ["link-missing"]
