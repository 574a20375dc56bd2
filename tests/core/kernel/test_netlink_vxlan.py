"""VXLAN devices and their entries with the real kernel, iproute2 as the witness."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from tulle.contracts.backend import Report
from tulle.kernel import ethtool
from tulle.kernel.monitor import Monitor
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import (
    Wanted,
    WantedAddress,
    WantedFdb,
    WantedLink,
    WantedNeighbour,
    WantedRoute,
    WantedVxlan,
)

pytestmark = pytest.mark.lab

MAC = "5e:00:00:00:00:01"
PEERS = 3


def device(family: int = 4, **options: Any) -> WantedLink:
    name = "flannel.1" if family == 4 else "flannel-v6.1"
    local = ip_address("192.0.2.1" if family == 4 else "2001:db8::1")
    return WantedLink(name, 1400, None, vxlan=WantedVxlan(1, 8472, "up0", local, MAC, **options))


def everything(peers: int = PEERS, **options: Any) -> Wanted:
    """Both families, with peers number 2 and so on."""
    routes, neighbours, fdb = [], [], []
    for number in range(2, 2 + peers):
        mac = f"02:00:00:00:00:{number:02x}"
        for link, near, length, outer in (
            ("flannel.1", f"10.42.{number}.0", 24, f"192.0.2.{number}"),
            ("flannel-v6.1", f"fd42:0:0:{number:x}::", 64, f"2001:db8::{number:x}"),
        ):
            gateway = ip_address(near)
            routes.append(
                WantedRoute(ip_network(f"{near}/{length}"), link, "unicast", 0, gateway=gateway, onlink=True)
            )
            neighbours.append(WantedNeighbour(link, gateway, mac))
            fdb.append(WantedFdb(link, mac, ip_address(outer)))
    addresses = (
        WantedAddress("flannel.1", ip_interface("10.42.1.0/32")),
        WantedAddress("flannel-v6.1", ip_interface("fd42:0:0:1::/128")),
    )
    links = (device(4, **options), device(6, **options))
    return Wanted(links, addresses, tuple(routes), tuple(neighbours), tuple(fdb))


def reconcile(netns: Any, *wanted: Wanted, trusting: bool = False) -> list[Report]:
    async def once() -> list[Report]:
        async with Netlink() as kernel:
            return [await kernel.reconcile(one, trusting=trusting) for one in wanted]

    reports: list[Report] = netns.run(once())
    return reports


@pytest.fixture
def underlay(netns: Any) -> Any:
    netns.batch(
        "link add up0 type veth peer name up1\nlink set up0 up\nlink set up1 up\n"
        "address add 192.0.2.1/24 dev up0\naddress add 2001:db8::1/64 dev up0 nodad\n"
    )
    return netns


@pytest.fixture
def ready(underlay: Any) -> Any:
    (report,) = reconcile(underlay, everything())
    assert report.problems == ()
    return underlay


def facts(netns: Any, name: str) -> dict[str, Any]:
    (shown,) = netns.json(f"-d link show {name}")
    data = shown["linkinfo"]["info_data"]
    picked = {key: data.get(key) for key in ("id", "port", "link", "learning", "gbp")}
    local = data.get("local") or data.get("local6")
    return {
        **picked,
        "local": local,
        "mac": shown["address"],
        "mtu": shown["mtu"],
        "alias": shown.get("ifalias"),
    }


EXPECTED = {
    "id": 1,
    "port": 8472,
    "link": "up0",
    "learning": False,
    "gbp": None,
    "mac": MAC,
    "mtu": 1400,
    "alias": "tulle",
}


def fdb_of(netns: Any, name: str) -> set[tuple[str, str]]:
    lines = netns.call(_bridge, name).splitlines()
    return {(line.split()[0], line.split()[2]) for line in lines if " dst " in line}


def _bridge(name: str) -> str:

    done = subprocess.run(["bridge", "fdb", "show", "dev", name], capture_output=True, text=True, check=True)
    return done.stdout


def whole(netns: Any, peers: int = PEERS) -> None:
    """iproute2 sees all of `everything`, and no more."""
    assert facts(netns, "flannel.1") == EXPECTED | {"local": "192.0.2.1"}
    assert facts(netns, "flannel-v6.1") == EXPECTED | {"local": "2001:db8::1"}
    numbers = range(2, 2 + peers)
    macs = {number: f"02:00:00:00:00:{number:02x}" for number in numbers}
    assert fdb_of(netns, "flannel.1") == {(macs[one], f"192.0.2.{one}") for one in numbers}
    assert fdb_of(netns, "flannel-v6.1") == {(macs[one], f"2001:db8::{one:x}") for one in numbers}
    for name, near in (("flannel.1", "10.42.{}.0"), ("flannel-v6.1", "fd42:0:0:{}::")):
        shown = netns.json(f"neighbour show dev {name} nud permanent")
        assert {(one["dst"], one["lladdr"]) for one in shown} == {
            (near.format(one), macs[one]) for one in numbers
        }
        routes = netns.json(f"-{'6' if 'v6' in name else '4'} route show dev {name} proto 116")
        assert {(one["dst"].partition("/")[0], one["gateway"]) for one in routes} == {
            (near.format(one), near.format(one)) for one in numbers
        }
        assert all(one["flags"] == ["onlink"] for one in routes)


def test_devices_are_made_with_all_that_lies_on_them_and_a_second_pass_does_nothing(underlay: Any) -> None:
    first, second = reconcile(underlay, everything(), everything())
    assert first.problems == ()
    assert "flannel.1: made, VNI 1 and port 8472 over up0 from 192.0.2.1" in first.changed
    whole(underlay)
    assert second == Report()


DISTURBANCES = [
    "link del flannel.1",
    "link del flannel-v6.1",
    "link set flannel.1 down",
    "link set flannel-v6.1 address 5e:00:00:00:00:99",
    "link set flannel.1 type vxlan learning",
    "neighbour del 10.42.2.0 dev flannel.1",
    "neighbour replace 10.42.3.0 dev flannel.1 lladdr 02:00:00:00:00:77 nud permanent",
    "neighbour add 10.42.9.0 dev flannel.1 lladdr 02:00:00:00:00:09 nud permanent",
    "neighbour flush dev flannel-v6.1 nud permanent",
    "route del 10.42.2.0/24",
    "-6 route flush dev flannel-v6.1 proto 116",
    "route add 10.42.77.0/24 dev flannel.1 proto 116",
]


@pytest.mark.parametrize("words", DISTURBANCES)
def test_drift_is_put_right(ready: Any, words: str) -> None:
    ready.ip(words)
    first, second = reconcile(ready, everything(), everything())
    assert first.changed
    assert first.problems == ()
    whole(ready)
    assert second == Report()


@pytest.mark.parametrize(
    "words",
    [
        "del 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2",
        "replace 02:00:00:00:00:03 dev flannel-v6.1 dst 2001:db8::77",
        "replace 02:00:00:00:00:03 dev flannel.1 dst 192.0.2.3 port 4789",
        "add 02:00:00:00:00:99 dev flannel.1 dst 192.0.2.9",
        "append 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.9",
    ],
)
def test_drift_of_fdb_entries_is_put_right(ready: Any, words: str) -> None:

    ready.call(lambda: subprocess.run(["bridge", "fdb", *words.split()], check=True))
    first, second = reconcile(ready, everything(), everything())
    assert first.changed
    assert first.problems == ()
    whole(ready)
    assert second == Report()


def test_a_few_changes_are_made_without_looking_where_the_last_pass_saw_all_right(underlay: Any) -> None:
    reports = reconcile(underlay, everything(2), everything(4), everything(1), everything(3), trusting=True)
    assert all(one.problems == () for one in reports)
    whole(underlay, 3)
    assert len(reports[3].changed) == 2 * 2 * 3


def test_trust_that_the_kernel_disappoints_is_followed_by_a_look(ready: Any) -> None:
    async def run() -> list[Report]:
        async with Netlink() as kernel:
            await kernel.reconcile(everything())
            _ip("link del flannel.1")
            return [await kernel.reconcile(everything(4), trusting=True)]

    (report,) = ready.run(run())
    assert report.problems == ()
    whole(ready, 4)


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def many(peers: int) -> Wanted:
    """IPv4 alone: each peer has a route, a neighbour and an FDB entry."""
    routes, neighbours, fdb = [], [], []
    for number in range(2, 2 + peers):
        near, mac = (
            IPv4Address(0x0A000000 + (number << 8)),
            (0x020000000000 + number).to_bytes(6, "big").hex(":"),
        )
        pods = IPv4Network((near, 24))
        routes.append(WantedRoute(pods, "flannel.1", "unicast", 0, gateway=near, onlink=True))
        neighbours.append(WantedNeighbour("flannel.1", near, mac))
        fdb.append(WantedFdb("flannel.1", mac, IPv4Address(0xC6120000 + number)))  # 198.18.0.0/15, RFC 2544
    return Wanted((device(),), (), tuple(routes), tuple(neighbours), tuple(fdb))


def test_thousands_of_peers_are_set_up_compared_and_brought_back_in_no_time(
    underlay: Any, record_property: Any
) -> None:
    """Meant are 1 s, 0.3 s of processor and 2 s; the recorded figures are judged, the test allows a busy machine."""
    wanted, one_more = many(5000), many(5001)

    async def run() -> dict[str, float]:
        took = {}
        async with Netlink() as kernel:
            for what, wish, trusting in (
                ("set-up-s", wanted, False),
                ("compare-s", wanted, False),
                ("one-more-s", one_more, True),
                ("back-s", one_more, False),
            ):
                if what == "back-s":
                    _ip("link del flannel.1")
                begun = time.process_time()
                report = await kernel.reconcile(wish, trusting=trusting)
                took[what] = round(time.process_time() - begun, 4)
                assert report.problems == ()
                assert len(report.changed) < 20
        return took

    took: dict[str, float] = underlay.run(run())
    for what, seconds in took.items():
        record_property(what, seconds)
        print(what, seconds)
    assert len(underlay.json("route show dev flannel.1 proto 116")) == 5001
    assert took["set-up-s"] < 10
    assert took["compare-s"] < 3
    assert took["one-more-s"] < took["set-up-s"]
    assert took["back-s"] < 20


def test_a_device_made_by_hand_as_flannel_makes_it_is_adopted_without_touching_what_fits(
    underlay: Any,
) -> None:
    underlay.batch(
        f"link add flannel.1 address {MAC} mtu 1450 type vxlan id 1 dstport 8472 local 192.0.2.1 dev up0 nolearning\n"
        "link set flannel.1 up\naddress add 10.42.1.0/32 dev flannel.1\n"
    )
    underlay.batch(
        "route add 10.42.2.0/24 via 10.42.2.0 dev flannel.1 onlink\n"
        "route add 10.42.99.0/24 via 10.42.99.0 dev flannel.1 onlink\n"  # of a node that is gone: flannel issue 2554
        "route add 10.42.98.0/24 via 10.42.98.0 dev flannel.1 onlink proto static\n"
    )
    (before,) = underlay.json("link show flannel.1")
    (report, again) = reconcile(underlay, everything(), everything())
    assert (report.problems, again) == ((), Report())
    left = {one["dst"] for one in underlay.json("route show dev flannel.1")}
    assert left == {"10.42.2.0/24", "10.42.3.0/24", "10.42.4.0/24", "10.42.98.0/24"}
    (now,) = underlay.json("link show flannel.1")
    assert now["ifindex"] == before["ifindex"]
    assert "flannel.1: mtu was 1450, set to 1400" in report.changed
    whole(underlay)


@pytest.mark.parametrize("words", ["id 2 dstport 8472", "id 1 dstport 4789", "id 1 dstport 8472 gbp"])
def test_a_device_that_cannot_be_changed_is_made_anew_and_that_is_said(underlay: Any, words: str) -> None:
    underlay.ip(f"link add flannel.1 type vxlan {words} local 192.0.2.1 dev up0 nolearning")
    (report,) = reconcile(underlay, everything())
    assert [line for line in report.changed if "to be made anew" in line]
    whole(underlay)


def test_the_options_reach_the_device_and_a_second_pass_finds_them_there(underlay: Any) -> None:
    first, second = reconcile(underlay, *[everything(gbp=True, learning=True, ttl=9)] * 2)
    assert (first.problems, second) == ((), Report())
    for name in ("flannel.1", "flannel-v6.1"):
        assert facts(underlay, name)["gbp"] is True
        assert facts(underlay, name)["learning"] is True
        assert "ttl 9 " in underlay.ip(f"-d link show {name}")


def test_lower_device_and_outer_source_are_changed_on_the_device(ready: Any) -> None:
    ready.ip("address add 192.0.2.9/24 dev up0")
    (before,) = ready.json("link show flannel.1")
    wanted = everything()
    link = wanted.links[0]
    assert link.vxlan is not None
    moved = msgspec.structs.replace(link.vxlan, local=ip_address("192.0.2.9"), link="up1")
    links = (msgspec.structs.replace(link, vxlan=moved), wanted.links[1])
    first, second = reconcile(ready, *[msgspec.structs.replace(wanted, links=links)] * 2)
    assert first.changed == (
        f"flannel.1: lower device was {index_of(ready, 'up0')}, set to up1; "
        "outer source was 192.0.2.1, set to 192.0.2.9",
    )
    assert second == Report()
    assert facts(ready, "flannel.1") | {"link": "up1"} == EXPECTED | {"local": "192.0.2.9", "link": "up1"}
    assert ready.json("link show flannel.1")[0]["ifindex"] == before["ifindex"]


def index_of(netns: Any, name: str) -> int:
    (shown,) = netns.json(f"link show {name}")
    return int(shown["ifindex"])


def test_another_device_with_our_vni_is_named_as_the_reason(underlay: Any) -> None:
    underlay.ip("link add other type vxlan id 1 dstport 8472 local 192.0.2.1 dev up0")
    (report,) = reconcile(underlay, everything())
    (problem,) = report.problems
    assert (problem.code, problem.subject) == ("kernel-refused", "flannel.1")
    assert "another device has this VNI and port" in problem.message
    assert facts(underlay, "flannel-v6.1")["local"] == "2001:db8::1"
    assert facts(underlay, "other")["alias"] is None


def test_a_port_that_a_program_holds_is_said_and_the_device_comes_up_when_it_is_free(underlay: Any) -> None:
    holder = underlay.call(_bound, 8472)
    try:
        (report,) = reconcile(underlay, everything())
        refused = [one for one in report.problems if one.subject == "flannel.1"]
        assert [one.code for one in refused] == ["kernel-refused"]
        assert "a program holds its UDP port" in refused[0].message
    finally:
        holder.close()
    (report,) = reconcile(underlay, everything())
    assert report.problems == ()
    whole(underlay)


def _bound(port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("0.0.0.0", port))
    return opened


def test_checksum_offload_is_switched_and_kept(ready: Any) -> None:
    off = msgspec.structs.replace(device(), tx_checksum=False)
    wanted = msgspec.structs.replace(everything(), links=(off, device(6)))
    assert ready.call(ethtool.tx_checksum, "flannel.1")
    first, second = reconcile(ready, wanted, wanted)
    assert first.changed == ("flannel.1: tx checksum was on, set off",)
    assert second == Report()
    assert not ready.call(ethtool.tx_checksum, "flannel.1")


def test_devices_of_ours_that_nobody_wants_any_more_go_and_others_stay(ready: Any) -> None:
    ready.ip("link add other type vxlan id 7 dstport 4789 local 192.0.2.1 dev up0")
    (kept,) = reconcile(ready, Wanted(partial=True))
    assert kept == Report()
    whole(ready)
    (report,) = reconcile(ready, Wanted())
    assert set(report.changed) >= {
        "flannel.1: removed, nothing wants it any more",
        "flannel-v6.1: removed, nothing wants it any more",
    }
    assert {one["ifname"] for one in ready.json("link show type vxlan")} == {"other"}


def test_a_link_can_be_asked_about(ready: Any) -> None:
    async def look(name: str) -> Any:
        async with Netlink() as kernel:
            return await kernel.link(name)

    found = ready.run(look("flannel-v6.1"))
    assert (found.mac, found.mtu, found.up, found.alias) == (MAC, 1400, True, "tulle")
    assert (found.vxlan.vni, found.vxlan.port, found.vxlan.local) == (1, 8472, ip_address("2001:db8::1"))
    assert ready.run(look("up0")).vxlan is None
    assert ready.run(look("absent")) is None


@pytest.mark.parametrize(
    ("words", "wakes"),
    [
        ("neighbour replace 192.0.2.50 dev up0 lladdr 02:00:00:00:00:50 nud permanent", False),
        ("neighbour del 10.42.2.0 dev flannel.1", True),
        ("neighbour replace 10.42.2.0 dev flannel.1 lladdr 02:00:00:00:00:50 nud permanent", True),
    ],
)
def test_only_neighbours_of_links_with_entries_of_ours_wake(ready: Any, words: str, wakes: bool) -> None:

    async def run() -> bool:
        async with Netlink() as kernel:
            await kernel.reconcile(everything())
            woken = asyncio.Event()
            monitor = Monitor(woken.set, entries_of=lambda index: index in kernel.entry_links)
            try:
                _ip(words)
                async with asyncio.timeout(5.0 if wakes else 0.3):
                    await woken.wait()
            except TimeoutError:
                return False
            finally:
                monitor.close()
            return True

    assert ready.run(run()) is wakes
