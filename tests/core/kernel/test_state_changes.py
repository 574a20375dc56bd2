"""A route that changes: the new one stands by while the old one goes, so that no packet finds none."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tulle.contracts.report import Report
from tulle.kernel.netlink import Netlink
from tulle.kernel.saying import condensed
from tulle.kernel.state import AddRoute, RemoveRoute, Seen, SeenLink, Wanted, WantedRoute, cover, diff

ETH0 = SeenLink("eth0", 2, 1500, 1000, True)
LINKS = {"eth0": ETH0}
GATEWAYS = {4: ("192.0.2.2", "192.0.2.3"), 6: ("2001:db8::2", "2001:db8::3")}
CHANGES = 3000
PODS = {4: ip_network("10.42.2.0/24"), 6: ip_network("fd42:0:0:2::/64")}


def route(family: int, which: int, metric: int = 0, link: str = "eth0") -> WantedRoute:
    gateway = ip_address(GATEWAYS[family][which])
    return WantedRoute(PODS[family], link, "unicast", metric, gateway=gateway)


@pytest.mark.parametrize("family", [4, 6])
def test_the_new_route_stands_by_while_the_old_one_goes(family: int) -> None:
    old, new = route(family, 0), route(family, 1)
    aside = route(family, 1, new.metric + 1)
    plan = diff(Wanted(routes=(new,)), Seen(LINKS, routes=(old,)))
    assert plan.actions == (
        AddRoute(aside, 2, passing=True),
        RemoveRoute(old),
        AddRoute(new, 2),
        RemoveRoute(aside, passing=True),
    )
    assert len(condensed(plan.actions)) == 2, "people hear of the change alone"


@pytest.mark.parametrize("whose", ["wanted", "ours", "foreign"])
def test_where_its_place_is_taken_it_does_without(whose: str) -> None:
    old, new, there = route(4, 0), route(4, 1), route(4, 0, 1)
    wanted = Wanted(routes=(new, there) if whose == "wanted" else (new,))
    seen = Seen(
        LINKS,
        routes=(old,) if whose == "foreign" else (old, there),
        foreign={there.slot: "a route of another program"} if whose == "foreign" else {},
    )
    assert not any(getattr(one, "passing", False) for one in diff(wanted, seen).actions)


def test_a_cover_needs_no_stand_in() -> None:
    network = ip_network("10.42.0.0/16")
    old = WantedRoute(network, "eth0", "unicast", cover(network).metric)
    plan = diff(Wanted(routes=(cover(network),)), Seen(LINKS, routes=(old,)))
    assert plan.actions == (RemoveRoute(old), AddRoute(cover(network), 0))


def test_while_a_route_changes_to_and_fro_a_look_up_always_finds_one(netns: Any) -> None:
    """Of IPv4: an IPv6 look-up that meets a route just when that is removed fails, whatever stands beside it
    (ip6_create_rt_rcu in net/ipv6/route.c)."""
    family = 4
    netns.batch(
        "link add up0 type veth peer name up1\nlink set up0 up\nlink set up1 up\n"
        "address add 192.0.2.1/24 dev up0\naddress add 2001:db8::1/64 dev up0 nodad\n"
    )
    wishes = [Wanted(routes=(route(family, which, link="up0"), cover(PODS[family]))) for which in (0, 1)]

    async def change() -> Sequence[Report]:
        async with Netlink() as kernel:
            await kernel.reconcile(wishes[0])
            looking.set()
            return [
                await kernel.reconcile(wishes[number % 2], trusting=True) for number in range(1, CHANGES + 1)
            ]

    looking, enough = threading.Event(), threading.Event()
    found: list[str] = []

    def look() -> None:
        """`ip route get` in one process after the other costs too much: -batch asks as fast as it can."""
        looking.wait()
        while not enough.is_set():
            asked = f"route get {PODS[family][5]}\n" * 500
            done = subprocess.run(
                ["ip", "-batch", "-"], input=asked, text=True, capture_output=True, check=False
            )
            found.append(done.stdout + done.stderr)

    # A thread inherits the namespace of the one that starts it.
    thread = netns.call(lambda: threading.Thread(target=look))
    netns.call(thread.start)
    try:
        reports = netns.run(change())
    finally:
        looking.set()
        enough.set()
        thread.join()
    assert [one.problems for one in reports] == [()] * CHANGES
    answers = [line for text in found for line in text.splitlines() if line.strip()]
    gateways = {line.split(" via ")[1].split()[0] for line in answers if " via " in line}
    assert gateways == set(GATEWAYS[family])
    lost = [line for line in answers if "unreachable" in line.lower() or "RTNETLINK" in line]
    assert lost == []
    left = netns.json(f"-{family} route show {PODS[family]}")
    assert len([one for one in left if one.get("gateway")]) == 1
