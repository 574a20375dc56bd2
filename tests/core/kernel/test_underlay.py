"""Which interface is chosen, and what is said where none is."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tulle.contracts.backend import Underlay
from tulle.kernel.underlay import (
    LocalAddress,
    LocalLink,
    NoUnderlay,
    Surroundings,
    WayOut,
    Wish,
    choose,
    outside,
)
from tulle.net.prefix import Address, Family

SCOPE_LINK = 253
TEMPORARY, DEPRECATED = 0x01, 0x20


def link(name: str, index: int, *addresses: str | LocalAddress, ours: bool = False) -> LocalLink:
    local = tuple(a if isinstance(a, LocalAddress) else LocalAddress(ip_interface(a)) for a in addresses)
    return LocalLink(name, index, 1500, True, local, ours)


def address(text: str, scope: int = 0, flags: int = 0) -> LocalAddress:
    return LocalAddress(ip_interface(text), scope, flags)


LO = link("lo", 1, "127.0.0.1/8", "::1/128")
ETH0 = link("eth0", 2, "192.0.2.10/24", "192.0.2.11/24", "fd00::10/64", "fe80::10/64")
ETH1 = link("eth1", 3, "198.51.100.1/24")
NODE = Surroundings(
    (LO, ETH0, ETH1),
    {4: WayOut(2, ip_address("192.0.2.10")), 6: WayOut(2, ip_address("fd00::10"))},
)


def pick(
    *ifaces: str,
    needed: tuple[Family, ...] = (4,),
    seen: Surroundings = NODE,
    public: dict[Family, Address] | None = None,
    patterns: tuple[str, ...] = (),
    can_reach: tuple[str, ...] = (),
) -> Underlay:
    wish = Wish(ifaces, patterns, tuple(ip_address(one) for one in can_reach))
    return choose(wish, public or {}, needed, seen)


def with_ways(**reach: int) -> Surroundings:
    """`a192_0_2_1=2`: the way to 192.0.2.1 is the interface 2."""
    ways = {ip_address(name[1:].replace("_", ".")): WayOut(index) for name, index in reach.items()}
    return Surroundings(NODE.links, NODE.ways, ways)


def test_by_default_it_is_the_way_out() -> None:
    found = pick(needed=(4, 6))
    assert (found.link, found.index, found.mtu) == ("eth0", 2, 1500)
    assert found.addresses == {4: ip_address("192.0.2.10"), 6: ip_address("fd00::10")}
    assert found.public == found.addresses
    assert found.chosen_because == "the way out for IPv4"


def test_only_families_that_the_cluster_uses_are_told() -> None:
    assert set(pick(needed=(6,)).addresses) == {6}
    assert set(pick(needed=()).addresses) == {4, 6}


def test_the_way_of_a_needed_family_comes_before_another() -> None:
    ways: dict[Family, WayOut] = {4: WayOut(3), 6: WayOut(2)}
    found = pick(needed=(6,), seen=Surroundings(NODE.links, ways))
    assert (found.link, found.chosen_because) == ("eth0", "the way out for IPv6")


def test_the_source_of_the_default_route_is_preferred() -> None:
    ways: dict[Family, WayOut] = {4: WayOut(2, ip_address("192.0.2.11"))}
    assert pick(seen=Surroundings(NODE.links, ways)).addresses[4] == ip_address("192.0.2.11")


def test_an_interface_is_named_and_its_first_address_taken() -> None:
    found = pick("eth1")
    assert (found.link, found.addresses) == ("eth1", {4: ip_address("198.51.100.1")})
    assert found.chosen_because == "--iface eth1"


def test_an_address_picks_its_interface_and_itself() -> None:
    found = pick("192.0.2.11", needed=(4, 6))
    assert found.addresses == {4: ip_address("192.0.2.11"), 6: ip_address("fd00::10")}
    assert found.chosen_because == "--iface 192.0.2.11 is an address of eth0"


def test_the_first_iface_that_fits_is_taken() -> None:
    assert pick("wlan0", "10.0.0.1", "lo", "eth1", "eth0").link == "eth1"
    assert pick("eth1", "eth0", needed=(4, 6)).link == "eth0"


def test_public_addresses_are_told_instead() -> None:
    public: dict[Family, Address] = {4: ip_address("203.0.113.9"), 6: ip_address("2001:db8::9")}
    found = pick(public=public)
    assert found.public == {4: public[4]}
    assert found.addresses == {4: ip_address("192.0.2.10")}


def test_stable_global_addresses_come_before_temporary_and_link_scoped_ones() -> None:
    eth = link(
        "eth0",
        2,
        address("169.254.3.3/16", SCOPE_LINK),
        address("192.0.2.10/24"),
        address("fd00::dead/64", flags=TEMPORARY),
        address("fd00::old/64".replace("old", "01d"), flags=DEPRECATED),
        address("fd00::5/64"),
    )
    ways: dict[Family, WayOut] = {4: WayOut(2), 6: WayOut(2, ip_address("fd00::dead"))}
    found = pick(needed=(4, 6), seen=Surroundings((eth,), ways))
    assert found.addresses == {4: ip_address("192.0.2.10"), 6: ip_address("fd00::5")}


def test_a_link_local_ipv6_address_is_never_taken() -> None:
    eth = link("eth0", 2, "fe80::1/64")
    with pytest.raises(NoUnderlay, match="eth0 has no usable IPv6 address"):
        pick("eth0", needed=(6,), seen=Surroundings((eth,)))


def test_global_addresses_on_the_loopback_can_be_asked_for() -> None:
    lo = link("lo", 1, "127.0.0.1/8", "203.0.113.1/32")
    assert pick("lo", seen=Surroundings((lo, ETH0))).addresses == {4: ip_address("203.0.113.1")}


def test_without_a_default_route_the_only_interface_with_an_address_is_taken() -> None:
    tulle = link("tulle0", 9, "10.244.3.0/32", ours=True)
    found = pick(seen=Surroundings((LO, ETH1, tulle)))
    assert found.link == "eth1"
    assert "no default route" in found.chosen_because


def test_without_a_default_route_two_interfaces_are_a_question_for_the_user() -> None:
    with pytest.raises(NoUnderlay) as caught:
        pick(seen=Surroundings((LO, ETH0, ETH1)))
    assert str(caught.value) == (
        "no interface for the traffic to the other nodes: there is no default route; choose one of these with "
        "--iface: eth0 (192.0.2.10, 192.0.2.11, fd00::10), eth1 (198.51.100.1)"
    )


def test_every_refusal_is_told() -> None:
    with pytest.raises(NoUnderlay) as caught:
        pick("wlan0", "10.0.0.1", "eth1", needed=(4, 6))
    message = str(caught.value)
    for part in (
        "no interface is called wlan0",
        "no interface has 10.0.0.1",
        "eth1 has no usable IPv6 address",
    ):
        assert part in message


def test_a_node_without_any_address_is_told_to_get_one() -> None:
    with pytest.raises(NoUnderlay, match="configure one first"):
        pick(needed=(), seen=Surroundings((LO,)))


def test_a_pattern_is_tried_on_all_addresses_before_any_name() -> None:
    found = pick(patterns=("1",))
    assert (found.link, found.addresses[4]) == ("eth0", ip_address("192.0.2.10"))
    assert found.chosen_because == "--iface-regex 1 matches 192.0.2.10 of eth0"
    found = pick(patterns=("^eth1$",))
    assert (found.link, found.chosen_because) == ("eth1", "--iface-regex ^eth1$ matches the name eth1")


def test_the_address_that_a_pattern_matches_is_taken() -> None:
    assert pick(patterns=(r"\.11$",)).addresses[4] == ip_address("192.0.2.11")
    assert pick(patterns=("^fd00",), needed=(4, 6)).link == "eth0"


def test_a_pattern_that_matches_nothing_useful_gives_way_to_the_next() -> None:
    assert pick(patterns=("wlan", "^lo$", "eth1")).link == "eth1"
    assert pick(patterns=("eth.", "198"), needed=(4,)).link == "eth0"
    assert pick(patterns=("198", "eth."), needed=(4, 6)).link == "eth0"


def test_a_pattern_never_matches_what_tulle_has_made() -> None:
    tulle = link("tulle0", 9, "10.244.3.0/32", ours=True)
    with pytest.raises(NoUnderlay, match="no address and no name of an interface matches tulle"):
        pick(patterns=("tulle",), seen=Surroundings((tulle, *NODE.links), NODE.ways))
    assert pick(patterns=("10",), seen=Surroundings((tulle, *NODE.links), NODE.ways)).link == "eth0"


def test_the_way_to_an_address_that_must_be_reached_is_taken() -> None:
    seen = Surroundings(
        NODE.links, NODE.ways, {ip_address("203.0.113.5"): WayOut(2, ip_address("192.0.2.11"))}
    )
    found = pick(can_reach=("203.0.113.5",), seen=seen, needed=(4, 6))
    assert found.addresses == {4: ip_address("192.0.2.11"), 6: ip_address("fd00::10")}
    assert found.chosen_because == "--iface-can-reach 203.0.113.5 is reached by eth0"


def test_the_first_address_with_a_way_counts() -> None:
    seen = with_ways(a203_0_113_6=3)
    assert pick(can_reach=("203.0.113.5", "203.0.113.6"), seen=seen).link == "eth1"


def test_the_order_is_iface_then_pattern_then_way() -> None:
    seen = with_ways(a203_0_113_5=2)
    everything = {"patterns": ("eth1",), "can_reach": ("203.0.113.5",)}
    assert pick("eth0", **everything, seen=seen).chosen_because == "--iface eth0"  # type: ignore[arg-type]
    assert pick("wlan0", **everything, seen=seen).link == "eth1"  # type: ignore[arg-type]
    assert pick("wlan0", patterns=("wlan",), can_reach=("203.0.113.5",), seen=seen).link == "eth0"


@pytest.mark.parametrize(
    "asked", [{"patterns": ("wlan",)}, {"can_reach": ("203.0.113.5",)}, {"patterns": ("^lo$",)}]
)
def test_who_says_something_never_gets_the_default_route_instead(asked: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(NoUnderlay, match=r"choose one of these with --iface: eth0 .*, eth1"):
        pick(**asked)  # type: ignore[arg-type]


def test_a_way_through_tulle_itself_is_refused() -> None:
    tulle = link("tulle0", 9, "10.244.3.0/32", ours=True)
    seen = Surroundings((tulle, ETH1), {}, {ip_address("10.244.7.1"): WayOut(9)})
    with pytest.raises(NoUnderlay, match=r"the way to 10\.244\.7\.1 is tulle0, which tulle has made itself"):
        pick(can_reach=("10.244.7.1",), seen=seen)


def test_a_public_address_of_an_interface_chooses_it_where_nothing_else_does() -> None:
    public: dict[Family, Address] = {4: ip_address("198.51.100.1")}
    found = pick(public=public)
    assert (found.link, found.public) == ("eth1", public)
    assert found.chosen_because == "--public-ip 198.51.100.1 is an address of eth1"
    assert pick("eth0", public=public).link == "eth0"


def test_a_public_address_on_the_loopback_leaves_the_choice_to_the_default_route() -> None:
    lo = link("lo", 1, "127.0.0.1/8", "203.0.113.1/32")
    public: dict[Family, Address] = {4: ip_address("203.0.113.1")}
    found = pick(public=public, seen=Surroundings((lo, ETH0, ETH1), NODE.ways))
    assert (found.link, found.public) == ("eth0", public)


def test_one_refusal_is_told_once() -> None:
    with pytest.raises(NoUnderlay) as caught:
        pick(patterns=("eth1", "^eth1"), needed=(6,))
    assert str(caught.value).count("eth1 has no usable IPv6 address") == 1


def test_addresses_of_the_clusters_own_networks_are_no_way_to_other_nodes() -> None:
    """A bridge of pods that is left over from the last boot must not become the underlay when there is no other."""
    node = Surroundings((link("cni0", 5, "10.42.7.1/24"),))
    assert choose(Wish(), {}, [4], node).link == "cni0"
    seen = outside(node, [ip_network("10.42.0.0/16"), ip_network("fd42::/48")])
    assert seen.links == (link("cni0", 5),)
    with pytest.raises(NoUnderlay):
        choose(Wish(), {}, [4], seen)


def test_connected_is_what_the_links_addresses_reach_without_a_gateway() -> None:
    seen = link(
        "eth0",
        2,
        "198.51.100.9/28",
        "192.0.2.11/24",
        "192.0.2.10/24",
        "192.0.2.77/32",
        "fd00::1/64",
        "fe80::1/64",
    )
    everything = Surroundings((LO, seen, ETH1), NODE.ways)
    networks = [ip_network("192.0.2.0/24"), ip_network("198.51.100.0/28"), ip_network("fd00::/64")]
    assert list(pick("eth0", needed=(4, 6), seen=everything).connected) == networks
    assert list(pick("eth0", needed=(4,), seen=everything).connected) == networks[:2]
