"""Stale links and routes, and foreign ones."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from tulle.contracts.doctor import DoctorContext
from tulle.doctor.leftovers import RTPROT_KERNEL, delete, judge_foreign, judge_orphans, judge_ours
from tulle.kernel.state import COVER_METRIC, RTPROT_TULLE, SeenRoute, WantedRoute
from tulle.kernel.underlay import LocalLink
from tulle.net.prefix import parse_prefix

STATIC = 4
NETWORKS = (ip_network("10.42.0.0/16"),)
COVER = WantedRoute(NETWORKS[0], None, "unreachable", COVER_METRIC)
TUNNEL = WantedRoute(NETWORKS[0], "tulle0", "unicast", 0)


def route(destination: str, link: str = "eth1", metric: int = 0, protocol: int = STATIC) -> SeenRoute:
    return SeenRoute(WantedRoute(parse_prefix(destination), link, "unicast", metric), protocol)


def foreign(context: DoctorContext, *routes: SeenRoute) -> list[tuple[str, str]]:
    ours = SeenRoute(TUNNEL, RTPROT_TULLE), SeenRoute(COVER, RTPROT_TULLE)
    found = judge_foreign((*ours, *routes), NETWORKS, context.subnets, context.peers)
    return [(one.severity, one.subject) for one in found]


def test_covers_without_a_tunnel_and_our_links_are_left_of_a_dead_tulled() -> None:
    link = LocalLink("tulle0", 3, 1472, True, ours=True)
    found = judge_orphans([COVER], [link], "start it")
    assert [(one.severity, one.subject) for one in found] == [
        ("error", "10.42.0.0/16"),
        ("warning", "tulle0"),
    ]
    assert {one.mend for one in found} == {"tulle down  # or go on with it: start it"}


def test_routes_of_a_kernel_backend_carry_packets_without_a_tulled() -> None:
    assert judge_orphans([COVER, TUNNEL], [], "start it") == []


def test_a_route_with_our_mark_outside_the_networks_is_stale() -> None:
    stray = route("10.99.0.0/16", "tulle0", protocol=RTPROT_TULLE).route
    (found,) = judge_ours([COVER, TUNNEL, stray], NETWORKS)
    assert (found.severity, found.mend) == ("warning", "ip route del 10.99.0.0/16 dev tulle0 proto 116")
    assert judge_ours([stray], ()) == []  # the networks are not known


def test_a_foreign_route_to_a_peers_pods_is_an_error_and_to_nobodys_a_warning(context: DoctorContext) -> None:
    assert foreign(context, route("10.42.2.0/24")) == [("error", "10.42.2.0/24")]
    assert foreign(context, route("10.42.2.7/32")) == [("error", "10.42.2.7/32")]
    assert foreign(context, route("10.42.77.0/24")) == [("warning", "10.42.77.0/24")]


def test_routes_of_this_nodes_own_pods_the_default_and_other_networks_are_fine(
    context: DoctorContext,
) -> None:
    assert (
        foreign(
            context,
            route("10.42.1.0/24", "cni0", protocol=RTPROT_KERNEL),
            route("10.42.1.5/32", "veth1"),
            route("0.0.0.0/0"),
            route("192.168.0.0/16"),
            route("fd42::/48"),
        )
        == []
    )


def test_a_route_to_the_whole_network_matters_where_it_is_preferred(context: DoctorContext) -> None:
    assert foreign(context, route("10.42.0.0/16", metric=100)) == []
    before = WantedRoute(NETWORKS[0], "tulle0", "unicast", 50)
    found = judge_foreign(
        [SeenRoute(before, RTPROT_TULLE), route("10.42.0.0/16", metric=10)], NETWORKS, (), context.peers
    )
    assert [one.severity for one in found] == ["error"]


def test_a_lan_that_contains_the_cluster_is_a_warning_and_a_static_route_over_it_is_not(
    context: DoctorContext,
) -> None:
    assert foreign(context, route("10.0.0.0/8", protocol=RTPROT_KERNEL)) == [("warning", "10.0.0.0/8")]
    assert foreign(context, route("10.0.0.0/8")) == []


def test_the_command_to_delete_names_family_gateway_and_metric() -> None:
    six = WantedRoute(parse_prefix("fd42::/48"), "eth1", "unicast", 1024, gateway=ip_address("fe80::1"))
    assert delete(six) == "ip -6 route del fd42::/48 via fe80::1 dev eth1 metric 1024"
