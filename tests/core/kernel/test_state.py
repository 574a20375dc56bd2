"""The difference, against a small model of the kernel that keeps its rules of uniqueness."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.kernel.state import (
    ALIAS,
    COVER_METRIC,
    RTPROT_TULLE,
    Action,
    AddAddress,
    AddRoute,
    RemoveAddress,
    RemoveRoute,
    Seen,
    SeenLink,
    SetLink,
    Wanted,
    WantedAddress,
    WantedLink,
    WantedRoute,
    cover,
    diff,
)

NAMES = ["tulle0", "tulle1", "eth0"]
NETWORKS = [ip_network(text) for text in ("10.0.0.0/8", "10.1.0.0/16", "fd00::/48", "fd00::/64")]
ADDRESSES = [
    ip_interface(t) for t in ("10.1.0.0/32", "10.1.0.1/24", "fd00::1/128", "fe80::1/64", "169.254.1.1/16")
]


@st.composite
def routes(draw: st.DrawFn) -> WantedRoute:
    destination = draw(st.sampled_from(NETWORKS))
    metric = draw(st.sampled_from([0, 100, COVER_METRIC]))
    if draw(st.booleans()):
        return WantedRoute(destination, None, draw(st.sampled_from(["unreachable", "blackhole"])), metric)
    near = "10.9.9.9" if destination.version == 4 else "fe80::9"
    gateway = draw(st.sampled_from([None, ip_address(near)]))
    return WantedRoute(destination, draw(st.sampled_from(NAMES)), "unicast", metric, gateway=gateway)


addresses = st.builds(WantedAddress, st.sampled_from(NAMES), st.sampled_from(ADDRESSES))
mtus = st.sampled_from([1400, 1500])
queues = st.sampled_from([500, 5000])
wanted_links = st.builds(WantedLink, st.sampled_from(NAMES[:2]), mtus, queues, st.booleans())
wishes = st.builds(
    Wanted,
    st.lists(wanted_links, unique_by=lambda link: link.name).map(tuple),
    st.lists(addresses).map(tuple),
    st.lists(routes()).map(tuple),
)


@st.composite
def sights(draw: st.DrawFn) -> Seen:
    links = {
        name: SeenLink(name, index, draw(mtus), draw(queues), draw(st.booleans()), draw(aliases))
        for index, name in enumerate(NAMES, 1)
        if draw(st.integers(0, 3))
    }
    there = [a for a in draw(st.lists(addresses, unique=True)) if a.link in links]
    ours = draw(st.lists(routes(), unique_by=lambda route: route.slot))
    foreign = draw(st.lists(routes(), unique_by=lambda route: route.slot, max_size=2))
    taken = {route.slot for route in ours}
    return Seen(
        links,
        tuple(there),
        tuple(r for r in ours if r.link is None or r.link in links),
        {route.slot: route.text for route in foreign if route.slot not in taken},
    )


aliases = st.sampled_from(["", "", ALIAS, ALIAS, "another"])


def apply(action: Action, seen: Seen) -> Seen:
    """What the kernel would make of it; an assertion fails where it would refuse."""
    match action:
        case SetLink():
            link = seen.links[action.name]
            assert link.index == action.index
            assert link.alias in ("", ALIAS)
            changed = msgspec.structs.replace(link, **{action.setting: action.value})
            return msgspec.structs.replace(seen, links={**seen.links, action.name: changed})
        case AddAddress():
            assert action.address not in seen.addresses
            assert seen.links[action.address.link].index == action.index
            return msgspec.structs.replace(seen, addresses=(*seen.addresses, action.address))
        case RemoveAddress():
            assert seen.links[action.address.link].alias == ALIAS
            left = list(seen.addresses)
            left.remove(action.address)
            return msgspec.structs.replace(seen, addresses=tuple(left))
        case AddRoute():
            assert action.route.slot not in {r.slot for r in seen.routes} | set(seen.foreign)
            assert action.index == (seen.links[action.route.link].index if action.route.link else 0)
            return msgspec.structs.replace(seen, routes=(*seen.routes, action.route))
        case RemoveRoute():
            return msgspec.structs.replace(
                seen, routes=tuple(r for r in seen.routes if r is not action.route and r != action.route)
            )


def settled(wanted: Wanted, seen: Seen) -> Seen:
    """Twice: addresses of a link are removed only after it has been marked."""
    for _ in range(2):
        for action in diff(wanted, seen).actions:
            seen = apply(action, seen)
    return seen


@given(wishes, sights())
def test_applying_the_difference_reaches_a_state_without_difference(wanted: Wanted, seen: Seen) -> None:
    assert diff(wanted, settled(wanted, seen)).actions == ()


@given(wishes, sights())
def test_what_is_not_reached_is_a_problem(wanted: Wanted, seen: Seen) -> None:
    after = settled(wanted, seen)
    subjects = {problem.subject for problem in diff(wanted, after).problems}
    for link in wanted.links:
        there = after.links.get(link.name)
        reached = there is not None and (there.mtu, there.txqueuelen, there.up, there.alias) == (
            link.mtu,
            link.txqueuelen,
            link.up,
            link.alias,
        )
        assert reached != (link.name in subjects)
    for address in wanted.addresses:
        assert address in after.addresses or address.link in subjects
    for route in wanted.routes:
        assert route in after.routes or str(route.destination) in subjects or route.link in subjects


@given(wishes, sights())
def test_nothing_that_is_not_marked_is_changed(wanted: Wanted, seen: Seen) -> None:
    after = settled(wanted, seen)
    managed = {link.name for link in wanted.links}
    assert after.foreign == seen.foreign
    for name, link in seen.links.items():
        if name not in managed or link.alias == "another":
            assert after.links[name] == link
            assert {a for a in seen.addresses if a.link == name} <= set(after.addresses)
    local = {a for a in seen.addresses if a.address.is_link_local}
    assert local <= set(after.addresses)


@given(wishes, sights())
def test_routes_of_ours_that_are_not_wanted_are_gone(wanted: Wanted, seen: Seen) -> None:
    assert set(settled(wanted, seen).routes) <= set(wanted.routes)


@given(wishes, sights())
def test_a_line_for_people_names_what_it_is_about(wanted: Wanted, seen: Seen) -> None:
    for action in diff(wanted, seen).actions:
        assert action.subject in action.line


def test_a_cover_comes_first_and_goes_last() -> None:
    network = NETWORKS[0]
    through = WantedRoute(network, "tulle0", "unicast", 0)
    links = {"tulle0": SeenLink("tulle0", 7, 1500, 500, True, ALIAS)}
    coming = diff(Wanted(routes=(through, cover(network))), Seen(links)).actions
    assert coming == (AddRoute(cover(network), 0), AddRoute(through, 7))
    going = diff(Wanted(), Seen(links, routes=(cover(network), through))).actions
    assert going == (RemoveRoute(through), RemoveRoute(cover(network)))


def test_the_first_of_two_claims_to_a_network_is_set_and_the_other_reported() -> None:
    network = NETWORKS[1]
    first = WantedRoute(network, "eth0", "unicast", 0, gateway=ip_address("10.9.9.1"))
    second = WantedRoute(network, "eth0", "unicast", 0, gateway=ip_address("10.9.9.2"))
    plan = diff(Wanted(routes=(first, second, first)), Seen({"eth0": SeenLink("eth0", 2, 1500, 1000, True)}))
    assert plan.actions == (AddRoute(first, 2),)
    assert [(p.code, p.subject) for p in plan.problems] == [("route-conflict", str(network))]
    assert "10.9.9.1" in plan.problems[0].message
    assert "10.9.9.2" in plan.problems[0].message


def test_metric_0_of_an_ipv6_route_is_what_the_kernel_makes_of_it() -> None:
    assert WantedRoute(NETWORKS[2], "eth0", "unicast", 0).metric == 1024
    assert WantedRoute(NETWORKS[0], "eth0", "unicast", 0).metric == 0


@pytest.mark.parametrize(
    ("link", "kind", "gateway"),
    [
        (None, "unicast", None),
        ("eth0", "unreachable", None),
        (None, "unreachable", ip_address("10.0.0.1")),
        ("eth0", "unicast", ip_address("fd00::1")),
    ],
)
def test_a_route_that_cannot_be_is_refused(link: str | None, kind: str, gateway: object) -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/8"):
        WantedRoute(NETWORKS[0], link, kind, 0, gateway=gateway)  # type: ignore[arg-type]


def test_our_protocol_number_is_nobody_elses() -> None:
    """Those of linux/rtnetlink.h (6.15 and later have OVN's 84), iproute2's rt_protos and FRR."""
    taken = {*range(19), 42, 80, 84, 99, *range(186, 200)}
    assert RTPROT_TULLE not in taken
    assert RTPROT_TULLE < 256
