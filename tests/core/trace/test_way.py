"""The steps of a way: as it is, and each way in which it can end early."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from tulle.contracts.doctor import DoctorContext
from tulle.kernel.state import Way
from tulle.kernel.underlay import LocalLink
from tulle.trace.way import Seen, Step, in_tunnel, steps

MakeContext = Callable[..., DoctorContext]
MakeSeen = Callable[..., Seen]


def by_name(seen: Seen) -> dict[str, Step]:
    return {one.name: one for one in steps(seen)}


def test_through_the_tunnel_each_step_says_what_decides_it(make_seen: MakeSeen) -> None:
    seen = make_seen()
    assert in_tunnel(seen)
    assert [(one.name, one.what, one.rule) for one in steps(seen)] == [
        (
            "destination",
            "10.42.2.5: in 10.42.2.0/24, the subnet of n2",
            "lease 10.42.2.0-24&fd42:0:0:2::-64, expires in 23.9 h",
        ),
        ("route", "out of tulle0, source address 10.42.1.0", '"10.42.0.0/16 dev tulle0" (proto tulle)'),
        ("tunnel", "tulle0 (up, MTU 1472): read by the forwarder (pid 7)", ""),
        ("peer", "n2, at 192.0.2.2", "10.42.2.0/24 is the longest prefix"),
        (
            "encapsulation",
            "udp, 28 bytes more over IPv4, to port 8285/udp",
            "engine python: the only one installed",
        ),
        ("outer route", "to 192.0.2.2 out of eth0", '"192.0.2.0/24 dev eth0" (proto kernel)'),
        (
            "MTU",
            "packets of up to 1472 bytes pass whole (0 to spare)",
            "eth0's 1500 less 28; tulle0 has 1472",
        ),
    ]
    assert all(one.ok for one in steps(seen))


def test_the_outer_family_decides_what_a_packet_costs(make_seen: MakeSeen) -> None:
    seen = by_name(make_seen(endpoint=ip_address("2001:db8::2")))
    assert "48 bytes more over IPv6" in seen["encapsulation"].what
    assert seen["MTU"].what == (
        "packets of more than 1452 bytes are cut or dropped on eth0: give it an MTU of 1520 "
        "(ip link set dev eth0 mtu 1520)"
    )
    assert (seen["MTU"].ok, seen["MTU"].part, seen["MTU"].stops) == (False, True, False)


def test_each_of_a_backends_devices_is_the_tunnel_with_its_own_port(
    make_seen: MakeSeen, make_context: MakeContext
) -> None:
    planes = {
        "dataplane": {"engine": "python", "forwarder_pid": 7},
        "second_dataplanes": {"v6": {"engine": "python", "forwarder_pid": 8}},
    }
    ctx = make_context(
        backend="wireguard",
        device="wg",
        devices=("wg", "wg-v6"),
        port=51820,
        ports=(51820, 7),
        status=planes,
    )
    links = {"wg-v6": LocalLink("wg-v6", 7, 1420, True), "eth0": LocalLink("eth0", 2, 1500, True)}
    seen = make_seen(
        "fd42:0:0:2::5",
        ctx=ctx,
        way=Way("unicast", "wg-v6"),
        endpoint=ip_address("2001:db8::2"),
        links=links,
    )
    assert in_tunnel(seen)
    assert not in_tunnel(make_seen(ctx=ctx, way=Way("unicast", "eth0")))
    found = by_name(seen)
    assert found["tunnel"].what == "wg-v6 (up, MTU 1420): read by the forwarder (pid 8)"
    assert found["encapsulation"].what.endswith("over IPv6, to port 7/udp")
    assert found["MTU"].ok


def test_a_plain_route_beside_a_tunnel_costs_nothing(make_seen: MakeSeen) -> None:
    found = by_name(make_seen(way=Way("unicast", "eth0", gateway=ip_address("192.0.2.2"))))
    assert "not through a tunnel" in found["link"].what
    assert found["MTU"].what == "packets of up to 1500 bytes pass whole (0 to spare)"
    assert found["MTU"].ok


def test_without_a_network_config_nobody_can_say_what_it_costs(
    make_seen: MakeSeen, make_context: MakeContext
) -> None:
    seen = by_name(make_seen(ctx=make_context(overhead_bytes={})))
    assert "a number of bytes more" in seen["encapsulation"].what
    assert seen["MTU"].what.startswith("not known")
    assert seen["MTU"].rule == "eth0 has 1500; tulle0 has 1472"


def test_a_node_is_named_with_its_address(make_seen: MakeSeen) -> None:
    assert steps(make_seen("n2"))[0].what == (
        "the tunnel of node n2 (10.42.2.0): in 10.42.2.0/24, the subnet of n2"
    )


def test_without_a_tulled_nobody_says_what_reads_the_tunnel(
    make_seen: MakeSeen, make_context: MakeContext
) -> None:
    seen = by_name(make_seen(ctx=make_context(status=None)))
    assert "no tulled says so" in seen["tunnel"].what
    assert seen["tunnel"].ok
    assert seen["encapsulation"].rule == ""


ETH0_DOWN = {"tulle0": LocalLink("tulle0", 5, 1472, False)}
NONE = Way("none")


@pytest.mark.parametrize(
    ("destination", "different", "last", "words"),
    [
        ("10.42.2.5", {"way": NONE, "refusing": "unreachable 10.42.0.0/16"}, "route", "is tulled running?"),
        ("10.42.2.5", {"way": NONE}, "route", "add one (ip route add)"),
        ("10.42.2.5", {"links": ETH0_DOWN}, "tunnel", "ip link set dev tulle0 up"),
        ("10.42.99.1", {}, "peer", "no node's lease holds this address"),
        ("10.42.1.9", {}, "peer", "no pod runs yet"),
        ("10.42.2.5", {"endpoint": None, "outer": None}, "peer", "has no address of a family"),
        ("10.42.2.5", {"outer": NONE}, "outer route", "mend the underlay (ip route get 192.0.2.2)"),
    ],
)
def test_it_ends_at_the_first_step_that_stops_the_packet(
    make_seen: MakeSeen, destination: str, different: dict[str, Any], last: str, words: str
) -> None:
    found = steps(make_seen(destination, **different))
    assert (found[-1].name, found[-1].ok) == (last, False)
    assert words in found[-1].what
    assert all(one.ok for one in found[:-1])


def test_a_tunnel_that_no_forwarder_reads_stops_it(make_seen: MakeSeen, make_context: MakeContext) -> None:
    status = {"dataplane": {"engine": "python", "forwarder_pid": 0}}
    found = steps(make_seen(ctx=make_context(status=status)))
    assert (found[-1].name, found[-1].ok) == ("tunnel", False)
    assert "no forwarder reads it" in found[-1].what


def test_the_route_that_refuses_is_the_rule(make_seen: MakeSeen) -> None:
    assert (
        steps(make_seen(way=NONE, refusing="unreachable 10.42.0.0/16"))[-1].rule == "unreachable 10.42.0.0/16"
    )
    assert steps(make_seen(way=NONE))[-1].rule == "no route matches"


def test_a_pod_of_this_node_is_the_bridges(make_seen: MakeSeen) -> None:
    found = steps(make_seen("10.42.1.9", way=Way("unicast", "cni0", rule="r"), endpoint=None, outer=None))
    assert [one.name for one in found] == ["destination", "route", "bridge"]
    assert found[0].what.endswith("this node's own subnet")
    assert "the bridge alone takes it to the pod" in found[-1].what


def test_a_bridge_that_is_down_stops_it(make_seen: MakeSeen) -> None:
    links = {"cni0": LocalLink("cni0", 6, 1472, False)}
    found = steps(make_seen("10.42.1.9", way=Way("unicast", "cni0"), links=links, endpoint=None, outer=None))
    assert (found[-1].name, found[-1].ok) == ("bridge", False)


def test_an_address_of_this_node_does_not_leave(make_seen: MakeSeen) -> None:
    found = steps(make_seen("n1", way=Way("local", "lo"), endpoint=None, outer=None))
    assert "an address of this node itself" in found[-1].what
    assert found[-1].ok


def test_outside_the_cluster_tulle_has_no_part(make_seen: MakeSeen, make_context: MakeContext) -> None:
    way = Way("unicast", "eth0", gateway=ip_address("192.0.2.254"))
    found = steps(make_seen("198.51.100.1", way=way, endpoint=None, outer=None))
    assert "outside the cluster's network 10.42.0.0/16, fd42::/48" in found[0].what
    assert "out of eth0 by 192.0.2.254" in found[1].what
    assert "tulle has no part in it" in found[-1].what
    blind = steps(
        make_seen("198.51.100.1", way=way, ctx=make_context(networks=()), endpoint=None, outer=None)
    )
    assert "which is not known here" in blind[0].what


def test_kernel_routes_lead_to_a_peer_without_a_tunnel(
    make_seen: MakeSeen, make_context: MakeContext
) -> None:
    ctx = make_context(device="", overhead_bytes={4: 0, 6: 0}, status={"dataplane": {}})
    way = Way("unicast", "eth0", gateway=ip_address("192.0.2.2"))
    found = steps(make_seen(ctx=ctx, way=way))
    assert [one.name for one in found] == ["destination", "route", "link", "outer route", "MTU"]
    assert "by the kernel's own routes, not through a tunnel" in found[2].what


def test_a_link_that_was_not_seen_is_no_crash(make_seen: MakeSeen) -> None:
    found = steps(msgspec.structs.replace(make_seen(), links={}))
    assert [one.name for one in found][-1] == "outer route"
    assert all(one.ok for one in found)
