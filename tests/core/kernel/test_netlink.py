"""Reconciling with the real kernel, iproute2 as the witness."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from tulle.contracts.backend import Report
from tulle.kernel.monitor import Monitor
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import RTPROT_TULLE, Wanted, WantedAddress, WantedLink, WantedRoute, cover
from tulle.kernel.tun import Tun, open_tun
from tulle.kernel.underlay import Wish, choose

pytestmark = pytest.mark.lab

SIOCSIFMTU = 0x8922  # linux/sockios.h

V4, V6 = ip_network("10.244.0.0/16"), ip_network("fd00:244::/48")
IN_V4, IN_V6 = ip_interface("10.244.3.0/32"), ip_interface("fd00:244:0:3::/128")

WANTED = Wanted(
    links=(WantedLink("tulle0", 1472, 5000),),
    addresses=(WantedAddress("tulle0", IN_V4), WantedAddress("tulle0", IN_V6)),
    routes=(
        WantedRoute(V4, "tulle0", "unicast", 0, source=IN_V4.ip),
        WantedRoute(V6, "tulle0", "unicast", 0, source=IN_V6.ip),
        cover(V4),
        cover(V6),
    ),
)


def reconcile(netns: Any, wanted: Wanted = WANTED) -> Report:
    async def once() -> Report:
        async with Netlink() as kernel:
            return await kernel.reconcile(wanted)

    report: Report = netns.run(once())
    return report


def remove_ours(netns: Any, links: list[str] | None = None) -> list[str]:
    async def once() -> list[str]:
        async with Netlink() as kernel:
            return await kernel.remove_ours(links)

    removed: list[str] = netns.run(once())
    return removed


@pytest.fixture
def tun(netns: Any) -> Iterator[Tun]:
    with netns.call(open_tun, "tulle0") as opened:
        yield opened


@pytest.fixture
def ready(netns: Any, tun: Tun) -> Any:
    """A namespace in which all of WANTED has been set."""
    assert reconcile(netns).problems == ()
    return netns


def our_routes(netns: Any) -> set[tuple[str, str, str | None, int, str | None]]:
    """(destination, type, device, metric, source) as iproute2 tells."""
    found = set()
    for family in ("-4", "-6"):
        for r in netns.json(f"{family} route show table main proto {RTPROT_TULLE}"):
            kind = r.get("type", "unicast")
            link = r.get("dev") if kind == "unicast" else None
            found.add((r["dst"], kind, link, r.get("metric", 0), r.get("prefsrc")))
    return found


ALL_ROUTES = {
    (str(V4), "unicast", "tulle0", 0, str(IN_V4.ip)),
    (str(V6), "unicast", "tulle0", 1024, str(IN_V6.ip)),
    (str(V4), "unreachable", None, 1_000_000, None),
    (str(V6), "unreachable", None, 1_000_000, None),
}


def as_wanted(netns: Any) -> None:
    """iproute2 sees all that WANTED asks for."""
    (link,) = netns.json("-d link show tulle0")
    assert (link["mtu"], link["txqlen"], link["ifalias"]) == (1472, 5000, "tulle")
    assert "UP" in link["flags"]
    (shown,) = netns.json("address show dev tulle0")
    addresses = {f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"] if a["scope"] == "global"}
    assert addresses == {str(IN_V4), str(IN_V6)}
    assert our_routes(netns) == ALL_ROUTES


def test_a_fresh_device_becomes_as_wanted_and_a_second_pass_does_nothing(netns: Any, tun: Tun) -> None:
    first = reconcile(netns)
    assert first.problems == ()
    assert "tulle0: link was down, set up" in first.changed
    assert "tulle0: address 10.244.3.0/32 was missing, added" in first.changed
    assert f"route unreachable {V4} metric 1000000: was missing, added" in first.changed
    as_wanted(netns)
    assert reconcile(netns) == Report()


@pytest.mark.parametrize(
    ("disturbance", "line"),
    [
        ("link set tulle0 down", "tulle0: link was down, set up"),
        ("link set tulle0 mtu 1400", "tulle0: mtu was 1400, set to 1472"),
        ("link set tulle0 txqueuelen 500", "tulle0: txqueuelen was 500, set to 5000"),
        (f"address del {IN_V4} dev tulle0", f"tulle0: address {IN_V4} was missing, added"),
        (f"address del {IN_V6} dev tulle0", f"tulle0: address {IN_V6} was missing, added"),
        ("address add 10.9.9.9/24 dev tulle0", "tulle0: address 10.9.9.9/24 is not wanted, removed"),
        ("address flush dev tulle0", f"tulle0: address {IN_V4} was missing, added"),
        (f"route del {V4} dev tulle0", f"route {V4} dev tulle0 src {IN_V4.ip}: was missing, added"),
        (
            f"-6 route del {V6} dev tulle0",
            f"route {V6} dev tulle0 src {IN_V6.ip} metric 1024: was missing, added",
        ),
        (f"route del unreachable {V4}", f"route unreachable {V4} metric 1000000: was missing, added"),
        (
            f"route add 10.250.0.0/24 dev tulle0 proto {RTPROT_TULLE}",
            "route 10.250.0.0/24 dev tulle0: is not wanted, removed",
        ),
        (
            f"route add blackhole 10.251.0.0/24 proto {RTPROT_TULLE}",
            "route blackhole 10.251.0.0/24: is not wanted, removed",
        ),
        (
            f"-6 route add blackhole fd01::/64 proto {RTPROT_TULLE}",
            "route blackhole fd01::/64 metric 1024: is not wanted, removed",
        ),
        (
            f"route replace {V4} dev tulle0 proto {RTPROT_TULLE}",
            f"route {V4} dev tulle0: is not wanted, removed",
        ),
        (
            f"-6 route add fd02::/64 proto {RTPROT_TULLE} "
            "nexthop via fe80::8 dev tulle0 nexthop via fe80::9 dev tulle0",
            "route multipath fd02::/64 metric 1024: is not wanted, removed",
        ),
    ],
)
def test_drift_is_put_right(ready: Any, disturbance: str, line: str) -> None:
    ready.ip(disturbance)
    report = reconcile(ready)
    assert line in report.changed
    assert report.problems == ()
    as_wanted(ready)
    assert reconcile(ready) == Report()


def test_a_deleted_device_is_a_problem_and_its_network_stays_unreachable_until_it_is_back(
    ready: Any, tun: Tun
) -> None:
    ready.ip("link del tulle0")
    report = reconcile(ready)
    assert [(p.code, p.subject) for p in report.problems] == [("link-missing", "tulle0")]
    assert our_routes(ready) == {r for r in ALL_ROUTES if r[1] == "unreachable"}
    assert not tun.alive()
    with ready.call(open_tun, "tulle0"):
        assert reconcile(ready).problems == ()
        as_wanted(ready)


def test_a_gateway_route_over_a_foreign_link_is_set_and_changed(netns: Any) -> None:
    netns.ip("link add up0 type veth peer name up1")
    netns.batch("link set up0 up\nlink set up1 up\naddress add 192.168.9.1/24 dev up0\n")
    peer, near = ip_network("10.244.7.0/24"), ip_address("192.168.9.7")
    wanted = WantedRoute(peer, "up0", "unicast", 0, gateway=near)
    assert reconcile(netns, Wanted(routes=(wanted,))).changed == (f"route {wanted.text}: was missing, added",)
    moved = WantedRoute(peer, "up0", "unicast", 0, gateway=ip_address("172.16.0.9"), onlink=True)
    assert reconcile(netns, Wanted(routes=(moved,))).changed == (
        f"route {wanted.text}: is not wanted, removed",
        f"route {moved.text}: was missing, added",
    )
    assert reconcile(netns, Wanted(routes=(moved,))) == Report()
    (shown,) = netns.json(f"route show {peer}")
    assert (shown["gateway"], shown["flags"]) == ("172.16.0.9", ["onlink"])
    assert "192.168.9.1" in netns.ip("address show dev up0")  # not ours: untouched


@pytest.mark.parametrize(("network", "metric"), [(V4, 0), (V6, 1024)])
@pytest.mark.parametrize("words", ["proto static", "proto bird", ""])
def test_a_foreign_route_in_the_way_is_reported_and_left_alone(
    netns: Any, tun: Tun, network: Any, metric: int, words: str
) -> None:
    netns.ip("link add other type veth peer name rehto")
    netns.batch("link set other up\nlink set rehto up\n")
    netns.ip(f"-{network.version} route add {network} dev other {words} metric {metric}")
    before = netns.json(f"-{network.version} route show {network} dev other")
    for _ in range(2):
        report = reconcile(netns)
        assert [(p.code, p.subject) for p in report.problems] == [("foreign-route", str(network))]
        assert f"{network} dev other" in report.problems[0].message
        assert (words.removeprefix("proto ") or "boot") in report.problems[0].message
    assert report.changed == ()
    assert netns.json(f"-{network.version} route show {network} dev other") == before
    netns.ip(f"-{network.version} route del {network} dev other metric {metric}")
    assert reconcile(netns).problems == ()
    as_wanted(netns)


def test_a_foreign_route_under_a_narrower_one_is_reported_as_well(netns: Any, tun: Tun) -> None:
    netns.batch(
        f"route add blackhole {V4}\nroute add blackhole {V4[0]}/24\nroute add blackhole {V4[-1]}/32\n"
    )
    (problem,) = reconcile(netns).problems
    assert problem.code == "foreign-route"
    assert f"another route to {V4}" in problem.message


def test_a_link_with_the_mark_of_another_is_left_alone(netns: Any, tun: Tun) -> None:
    netns.ip("link set tulle0 alias mine")
    report = reconcile(netns)
    assert [p.code for p in report.problems] == ["foreign-link"]
    (link,) = netns.json("link show tulle0")
    assert (link["mtu"], link["ifalias"]) == (1500, "mine")
    assert our_routes(netns) == {r for r in ALL_ROUTES if r[1] == "unreachable"}


def test_what_the_kernel_refuses_is_a_problem_that_stops_nothing_else(netns: Any, tun: Tun) -> None:
    wanted = Wanted(
        links=(WantedLink("tulle0", 10_000_000, 5000),), routes=(WantedRoute(V4, "tulle0", "unicast", 0),)
    )
    report = reconcile(netns, wanted)
    assert [(p.code, p.subject) for p in report.problems] == [("kernel-refused", "tulle0")]
    assert "mtu was 1500, set to 10000000: not done" in report.problems[0].message
    assert (str(V4), "unicast", "tulle0", 0, None) in our_routes(netns)


def test_a_fight_with_another_program_is_given_up_and_reported(netns: Any, tun: Tun) -> None:
    """Another program puts the MTU back whenever it is changed."""

    async def fight() -> Report:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = struct.pack("16si20x", b"tulle0", 1400)
            monitor = Monitor(lambda: fcntl.ioctl(control, SIOCSIFMTU, request), debounce_s=0)
            try:
                async with Netlink() as kernel:
                    return await kernel.reconcile(Wanted(links=WANTED.links))
            finally:
                monitor.close()

    report = netns.run(fight())
    assert [(p.code, p.subject) for p in report.problems] == [("kernel-unsettled", "tulle0")]
    assert "mtu was 1400, set to 1472" in report.problems[0].message


def test_closing_leaves_no_descriptor(netns: Any) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        reconcile(netns, Wanted())
    assert len(os.listdir("/proc/self/fd")) == before


def test_remove_ours_removes_only_ours(ready: Any) -> None:
    ready.batch(
        "link add other type veth peer name rehto\nlink set other up\nlink set rehto up\n"
        "route add 10.99.0.0/16 dev other proto static\nroute add unreachable 10.98.0.0/16\n"
    )
    lines = remove_ours(ready, ["tulle0", "other", "absent"])
    assert len(lines) == 5
    assert "link tulle0: removed" in lines
    assert f"route unreachable {V4} metric 1000000: removed" in lines
    assert our_routes(ready) == set()
    assert {link["ifname"] for link in ready.json("link show")} >= {"lo", "other", "rehto"}
    assert {r["dst"] for r in ready.json("route show table main")} == {"10.99.0.0/16", "10.98.0.0/16"}
    assert remove_ours(ready) == []


def test_remove_ours_without_names_finds_our_links_by_their_mark(ready: Any) -> None:
    assert "link tulle0: removed" in remove_ours(ready)


def test_a_link_that_flickers_during_reconciles_raises_nothing_and_ends_as_wanted(netns: Any) -> None:
    """Devices are deleted and made again while five reconciles after one another are under way."""

    async def storm() -> Report:
        async with Netlink() as kernel:
            for round_ in range(40):
                passes = asyncio.gather(*(kernel.reconcile(WANTED) for _ in range(5)))
                for _ in range(round_ % 7):
                    await asyncio.sleep(0)
                tun = open_tun("tulle0")
                for _ in range(round_):
                    await asyncio.sleep(0)
                tun.close()
                await passes
            with open_tun("tulle0"):
                last = await kernel.reconcile(WANTED)
                assert await kernel.reconcile(WANTED) == Report()
            return last

    assert netns.run(storm()).problems == ()


def test_many_foreign_routes_cost_nothing(ready: Any) -> None:
    """Of 20,000 routes of others none is read (it would take seconds)."""
    ready.batch("".join(f"route add blackhole 11.{i >> 8}.{i & 255}.0/24\n" for i in range(20_000)))

    async def best_of_five() -> float:
        async with Netlink() as kernel:
            taken = []
            for _ in range(5):
                start = time.perf_counter()
                assert await kernel.reconcile(WANTED) == Report()
                taken.append(time.perf_counter() - start)
            return min(taken)

    assert ready.run(best_of_five()) < 0.2


def test_the_way_out_is_read_from_the_kernel(netns: Any, tun: Tun) -> None:
    netns.batch(
        "link add up0 type veth peer name up1\nlink set up0 up\nlink set up1 up\n"
        "address add 192.168.9.1/24 dev up0\naddress add 192.168.9.2/24 dev up0\n"
        "address add fd09::1/64 dev up0 nodad\naddress add 192.168.8.1/24 dev up1\n"
        "route add default via 192.168.9.254 src 192.168.9.2\n"
    )

    async def look() -> Any:
        async with Netlink() as kernel:
            return await kernel.surroundings()

    seen = netns.run(look())
    found = choose(Wish(), {}, {4, 6}, seen)
    assert (found.link, found.mtu) == ("up0", 1500)
    assert found.addresses == {4: ip_address("192.168.9.2"), 6: ip_address("fd09::1")}
    assert choose(Wish(("192.168.8.1",)), {}, {4}, seen).link == "up1"
    netns.ip("route replace unreachable default")
    assert netns.run(look()).ways == {}
