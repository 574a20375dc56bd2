"""What people are told: lines while they are few, counts when they are many."""

from __future__ import annotations

import errno
from ipaddress import IPv4Network, ip_address

from tulle.contracts.backend import Problem
from tulle.contracts.kernel import WantedLink, WantedRoute, WantedVxlan
from tulle.kernel.actions import Action, AddRoute, MakeLink, RemoveRoute
from tulle.kernel.saying import MANY, condensed, fewer, refused


def routes(count: int) -> list[Action]:
    return [
        AddRoute(WantedRoute(IPv4Network((number << 8, 24)), None, "unreachable", 1), 0)
        for number in range(count)
    ]


def test_few_lines_are_said_and_many_are_counted() -> None:
    assert len(condensed(routes(MANY))) == MANY
    (line,) = condensed(routes(MANY + 1))
    assert line == f"{MANY + 1} routes set (0.0.0.0/24 and others)"


def test_kinds_are_counted_apart_and_links_never() -> None:
    vxlan = WantedVxlan(1, 8472, "eth0", ip_address("192.0.2.1"), "02:00:00:00:00:01")
    made = MakeLink(WantedLink("flannel.1", 1450, None, vxlan=vxlan), vxlan, 2)
    gone = [RemoveRoute(one.route) for one in routes(3) if isinstance(one, AddRoute)]
    lines = condensed([made, *routes(MANY + 5), *gone])
    assert len(lines) == 5
    assert lines[0] == made.line


def test_an_ending_takes_the_place_of_the_reason() -> None:
    assert condensed(routes(1), "removed") == ("route unreachable 0.0.0.0/24 metric 1: removed",)


def test_of_many_problems_of_one_kind_the_first_are_told_and_the_others_counted() -> None:
    same = [Problem("kernel-refused", str(number), "no") for number in range(MANY + 7)]
    other = Problem("link-missing", "eth9", "no")
    found = fewer([same[0], other, *same[1:]])
    assert found[:MANY] == tuple(same[:MANY])
    assert (found[MANY].code, found[MANY].subject) == ("kernel-refused", "7 others")
    assert found[-1] == other
    assert fewer(same[:MANY]) == tuple(same[:MANY])


def test_a_refusal_says_what_to_do() -> None:
    vxlan = WantedVxlan(1, 8472, "eth0", ip_address("192.0.2.1"), "02:00:00:00:00:01")
    made = MakeLink(WantedLink("flannel.1", 1450, None, vxlan=vxlan), vxlan, 2)
    assert "another device has this VNI and port" in refused(made, errno.EEXIST).message
    assert "modprobe vxlan" in refused(made, errno.EOPNOTSUPP).message
    assert "CAP_NET_ADMIN" in refused(made, errno.EPERM).message
    assert refused(made, errno.EPERM).subject == "flannel.1"


def test_that_a_device_will_never_be_is_told_apart_from_what_may_pass() -> None:
    vxlan = WantedVxlan(1, 8472, "eth0", ip_address("192.0.2.1"), "02:00:00:00:00:01")
    made = MakeLink(WantedLink("flannel.1", 1450, None, vxlan=vxlan), vxlan, 2)
    codes = {number: refused(made, number).code for number in (errno.EPERM, errno.EOPNOTSUPP, errno.EEXIST)}
    assert codes == {
        errno.EPERM: "device-impossible",
        errno.EOPNOTSUPP: "device-impossible",
        errno.EEXIST: "kernel-refused",
    }
    (route,) = routes(1)
    assert refused(route, errno.EPERM).code == "kernel-refused"


def test_a_route_that_only_stands_in_is_not_told() -> None:
    (route,) = routes(1)
    assert isinstance(route, AddRoute)
    assert condensed([AddRoute(route.route, 2, passing=True), RemoveRoute(route.route, passing=True)]) == ()
