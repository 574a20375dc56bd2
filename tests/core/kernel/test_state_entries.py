"""VXLAN devices, neighbours and FDB entries: the difference, against a small model of the kernel."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.kernel import VxlanFacts
from tulle.kernel.state import (
    ALIAS,
    Action,
    AddRoute,
    DeleteLink,
    MakeLink,
    Plan,
    RemoveFdb,
    RemoveNeighbour,
    RemoveRoute,
    Seen,
    SeenLink,
    SetFdb,
    SetLink,
    SetNeighbour,
    SetVxlan,
    Wanted,
    WantedFdb,
    WantedLink,
    WantedNeighbour,
    WantedRoute,
    WantedVxlan,
    diff,
)

HERE = ip_address("192.0.2.1")
MAC = "02:00:00:00:00:01"
WANTED = WantedLink("flannel.1", 1450, None, vxlan=WantedVxlan(1, 8472, "eth0", HERE, MAC))
FACTS = VxlanFacts(1, 8472, 2, HERE, False, False, 0, False)
DEVICE = SeenLink("flannel.1", 7, 1450, 1000, True, ALIAS, MAC, FACTS)
ETH0 = SeenLink("eth0", 2, 1500, 1000, True)
LINKS = {"flannel.1": DEVICE, "eth0": ETH0}

MACS = [f"02:00:00:00:00:{number:02x}" for number in range(2, 6)]
OUTER = [ip_address(f"192.0.2.{number}") for number in range(2, 5)]
NEAR = [ip_address(text) for text in ("10.42.2.0", "10.42.3.0", "fd42::2")]

neighbours = st.builds(WantedNeighbour, st.just("flannel.1"), st.sampled_from(NEAR), st.sampled_from(MACS))
fdb = st.builds(WantedFdb, st.just("flannel.1"), st.sampled_from(MACS), st.sampled_from(OUTER))
routes = st.builds(
    lambda near, onlink: WantedRoute(
        ip_network(near), "flannel.1", "unicast", 0, gateway=near, onlink=onlink
    ),
    st.sampled_from(NEAR),
    st.booleans(),
)


def slot(one: WantedNeighbour | WantedFdb | WantedRoute) -> object:
    return one.slot


wishes = st.builds(
    lambda a, b, c, partial: Wanted((WANTED,), (), tuple(a), tuple(b), tuple(c), partial),
    st.lists(routes, unique_by=slot),
    st.lists(neighbours, unique_by=slot),
    st.lists(fdb, unique_by=slot),
    st.booleans(),
)
sights = st.builds(
    lambda a, b, c: Seen(LINKS, (), tuple(a), {}, tuple(b), tuple(c)),
    st.lists(routes, unique_by=slot),
    st.lists(neighbours, unique_by=slot),
    st.lists(fdb, unique=True),  # a MAC can have several destinations
)


def after(seen: Seen, actions: Iterable[Action]) -> Seen:
    """What will be seen when the kernel has carried out these, as far as they concern entries."""
    routes, neighbours, fdb = (
        dict.fromkeys(seen.routes),
        dict.fromkeys(seen.neighbours),
        dict.fromkeys(seen.fdb),
    )
    by_address = by_mac = None
    for one in actions:
        match one:
            case AddRoute():
                routes[one.route] = None
            case RemoveRoute():
                routes.pop(one.route, None)
            case SetNeighbour():
                by_address = by_address or {entry.slot: entry for entry in seen.neighbours}
                neighbours.pop(by_address.get(one.entry.slot, one.entry), None)
                neighbours[one.entry] = None
            case RemoveNeighbour():
                neighbours.pop(one.entry, None)
            case SetFdb():
                by_mac = by_mac or {entry.slot: entry for entry in seen.fdb}
                fdb.pop(by_mac.get(one.entry.slot, one.entry), None)
                fdb[one.entry] = None
            case RemoveFdb():
                fdb.pop(one.entry, None)
    return msgspec.structs.replace(seen, routes=tuple(routes), neighbours=tuple(neighbours), fdb=tuple(fdb))


@given(wishes, sights)
def test_applying_the_difference_reaches_what_is_wanted(wanted: Wanted, seen: Seen) -> None:
    for _ in range(2):  # of several destinations of one MAC the first is replaced, the others go next time
        seen = after(seen, diff(wanted, seen).actions)
    assert diff(wanted, seen) == Plan()
    for want, have in (
        (wanted.routes, seen.routes),
        (wanted.neighbours, seen.neighbours),
        (wanted.fdb, seen.fdb),
    ):
        assert set(have) >= set(want) if wanted.partial else set(have) == set(want)


@given(wishes, sights)
def test_a_wish_that_is_not_whole_yet_removes_nothing_but_what_is_in_its_place(
    wanted: Wanted, seen: Seen
) -> None:
    actions = diff(msgspec.structs.replace(wanted, partial=True), seen).actions
    assert not any(isinstance(one, RemoveNeighbour | RemoveFdb | DeleteLink) for one in actions)
    added = {one.route.slot for one in actions if isinstance(one, AddRoute)}
    assert {one.route.slot for one in actions if isinstance(one, RemoveRoute)} <= added


def test_a_new_peer_is_known_before_its_route_and_an_old_one_longer() -> None:
    route = WantedRoute(ip_network("10.42.2.0/24"), "flannel.1", "unicast", 0, gateway=NEAR[0], onlink=True)
    neighbour, entry = (
        WantedNeighbour("flannel.1", NEAR[0], MACS[0]),
        WantedFdb("flannel.1", MACS[0], OUTER[0]),
    )
    wanted = Wanted((WANTED,), (), (route,), (neighbour,), (entry,))
    coming = diff(wanted, Seen(LINKS)).actions
    assert coming == (SetFdb(entry, 7), SetNeighbour(neighbour, 7), AddRoute(route, 7))
    going = diff(Wanted((WANTED,)), after(Seen(LINKS), coming)).actions
    assert going == (RemoveRoute(route), RemoveNeighbour(neighbour, 7), RemoveFdb(entry, 7))


def test_a_peers_new_mac_takes_the_place_of_the_old_one_and_the_old_entry_goes() -> None:
    """flannel adds the new FDB entry and never removes the old one."""
    old = WantedNeighbour("flannel.1", NEAR[0], MACS[0]), WantedFdb("flannel.1", MACS[0], OUTER[0])
    new = WantedNeighbour("flannel.1", NEAR[0], MACS[1]), WantedFdb("flannel.1", MACS[1], OUTER[0])
    seen = Seen(LINKS, neighbours=(old[0],), fdb=(old[1],))
    actions = diff(Wanted((WANTED,), neighbours=(new[0],), fdb=(new[1],)), seen).actions
    assert actions == (SetFdb(new[1], 7), SetNeighbour(new[0], 7), RemoveFdb(old[1], 7))


def test_entries_of_a_link_that_is_not_ours_stay() -> None:
    foreign = WantedNeighbour("eth0", NEAR[0], MACS[0])
    assert diff(Wanted((WANTED,)), Seen(LINKS, neighbours=(foreign,))).actions == ()


def plan(facts: VxlanFacts | None = FACTS, wanted: WantedLink = WANTED, **seen: object) -> Plan:
    device = msgspec.structs.replace(DEVICE, vxlan=facts, **seen)
    return diff(Wanted((wanted,)), Seen({**LINKS, "flannel.1": device}))


def test_a_missing_device_is_made_on_its_lower_one() -> None:
    assert WANTED.vxlan is not None
    assert diff(Wanted((WANTED,)), Seen({"eth0": ETH0})) == Plan((MakeLink(WANTED, WANTED.vxlan, 2),))


def test_without_its_lower_device_it_is_not_made_and_that_is_said() -> None:
    found = diff(Wanted((WANTED,)), Seen())
    assert found.actions == ()
    assert {one.subject for one in found.problems} == {"flannel.1", "eth0"}


def test_a_device_that_is_as_wanted_is_left() -> None:
    assert plan() == Plan()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"index": 3}, "lower device was 3, set to eth0"),
        ({"local": ip_address("192.0.2.9")}, "outer source was 192.0.2.9, set to 192.0.2.1"),
        ({"learning": True}, "learning was True, set to False"),
        ({"ttl": 64}, "ttl was 64, set to 0"),
    ],
)
def test_what_can_be_changed_on_a_device_is_changed_in_place(change: dict[str, object], what: str) -> None:
    (action,) = plan(msgspec.structs.replace(FACTS, **change)).actions
    assert isinstance(action, SetVxlan)
    assert action.line == f"flannel.1: {what}"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vni": 2}, "VNI was 2 and cannot be changed to 1"),
        ({"port": 4789}, "port was 4789 and cannot be changed to 8472"),
        ({"gbp": True}, "GBP was True and cannot be changed to False"),
        ({"local": ip_address("2001:db8::1")}, "its outer packets were IPv6"),
    ],
)
def test_what_cannot_be_changed_makes_a_new_device_and_is_said(change: dict[str, object], why: str) -> None:
    gone, made = plan(msgspec.structs.replace(FACTS, **change)).actions
    assert isinstance(gone, DeleteLink)
    assert why in gone.line
    assert isinstance(made, MakeLink)


def test_an_outer_ipv6_packet_without_checksum_needs_a_new_device_and_ipv4_does_not() -> None:
    assert plan(msgspec.structs.replace(FACTS, zero_checksum6=True)) == Plan()
    six = ip_address("2001:db8::1")
    wanted = WantedLink("flannel.1", 1450, None, vxlan=WantedVxlan(1, 8472, "eth0", six, MAC))
    facts = msgspec.structs.replace(FACTS, local=six, zero_checksum6=True)
    assert [type(one) for one in plan(facts, wanted).actions] == [DeleteLink, MakeLink]


def test_a_mac_and_a_checksum_setting_are_put_right() -> None:
    wanted = msgspec.structs.replace(WANTED, tx_checksum=False)
    actions = plan(wanted=wanted, mac=MACS[0], tx_checksum=True).actions
    assert [one.line for one in actions] == [
        f"flannel.1: mac was {MACS[0]}, set to {MAC}",
        "flannel.1: tx checksum was on, set off",
    ]
    assert all(isinstance(one, SetLink) for one in actions)


@pytest.mark.parametrize("change", [{"alias": "another"}, {"facts": None}])
def test_a_device_of_somebody_else_is_a_problem_and_left(change: dict[str, object]) -> None:
    found = plan(**change)  # type: ignore[arg-type]
    assert found.actions == ()
    assert [(one.code, one.subject) for one in found.problems] == [("foreign-link", "flannel.1")]


def test_a_device_of_ours_that_nobody_wants_goes_when_all_is_known() -> None:
    seen = Seen({}, stale=(DEVICE,))
    (action,) = diff(Wanted(), seen).actions
    assert isinstance(action, DeleteLink)
    assert diff(Wanted(partial=True), seen).actions == ()


@given(wishes, sights)
def test_a_line_for_people_names_what_it_is_about(wanted: Wanted, seen: Seen) -> None:
    for action in diff(wanted, seen).actions:
        assert action.subject in action.line
