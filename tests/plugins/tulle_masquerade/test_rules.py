"""What becomes of which packet; and both ways to write a rule say the same."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle_masquerade.rules import KUBE_MARK, NatRule, iptables_words, nat_rules, nft_table, nft_text

NETWORKS = (ip_network("10.42.0.0/16"), ip_network("fd42::/48"))
SUBNETS = (ip_network("10.42.1.0/24"), ip_network("fd42:0:0:1::/64"))
RULES = nat_rules(NETWORKS, SUBNETS)


def verdict(
    rules: Sequence[NatRule], source: str | IPv4Address | IPv6Address, destination: object, mark: int = 0
) -> str:
    """By the first rule that holds; "" where none does."""
    here, there = ip_address(str(source)), ip_address(str(destination))
    for rule in rules:
        if rule.family not in (None, here.version) or rule.mark & mark != rule.mark:
            continue
        if rule.source is not None and (here in rule.source) == rule.source_outside:
            continue
        if rule.destination is not None and (there in rule.destination) == rule.destination_outside:
            continue
        return rule.action
    return ""


@pytest.mark.parametrize(
    ("source", "destination", "wanted"),
    [
        ("10.42.1.2", "10.42.2.2", "return"),
        ("10.42.1.2", "198.51.100.1", "masquerade"),
        ("10.42.1.2", "224.0.0.251", ""),
        ("198.51.100.1", "10.42.1.2", "return"),
        ("198.51.100.1", "10.42.2.2", "masquerade"),
        ("10.42.2.2", "10.42.1.2", "return"),
        ("10.42.2.2", "10.42.3.2", "return"),
        ("198.51.100.1", "203.0.113.1", ""),
        ("fd42:0:0:1::2", "fd42:0:0:2::2", "return"),
        ("fd42:0:0:1::2", "2001:db8::1", "masquerade"),
        ("fd42:0:0:1::2", "ff02::fb", ""),
        ("2001:db8::1", "fd42:0:0:1::2", "return"),
        ("2001:db8::1", "fd42:0:0:2::2", "masquerade"),
        ("2001:db8::1", "2001:db8::2", ""),
    ],
)
def test_what_becomes_of_a_packet(source: str, destination: str, wanted: str) -> None:
    assert verdict(RULES, source, destination) == wanted


@pytest.mark.parametrize("mark", [KUBE_MARK, KUBE_MARK | 1])
def test_what_kube_proxy_marked_is_left_to_it(mark: int) -> None:
    assert verdict(RULES, "10.42.1.2", "198.51.100.1", mark) == "return"
    assert verdict(RULES, "10.42.1.2", "198.51.100.1", 0x8000) == "masquerade"


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_no_packet_between_addresses_of_the_cluster_is_ever_masqueraded(one: int, other: int) -> None:
    base = NETWORKS[0].network_address
    assert verdict(RULES, base + one, base + other) == "return"


@given(st.ip_addresses(v=4))
def test_whoever_asks_a_pod_of_this_node_is_seen_as_he_is(source: IPv4Address) -> None:
    assert verdict(RULES, source, "10.42.1.9") == "return"


def test_defect_10_every_rule_can_be_reached() -> None:
    """The last one too, which in flannel's nftables form never is."""
    packets = [(s, d, m) for s in ("10.42.1.2", "198.51.100.1") for d in ("10.42.2.2", "10.42.1.3", "192.0.2.9")
               for m in (0, KUBE_MARK)]  # fmt: skip
    four = [rule for rule in RULES if rule.family in (None, 4)]
    for rule in four:
        without = [one for one in four if one is not rule]
        assert any(verdict(four, *one) != verdict(without, *one) for one in packets), rule


def test_a_network_of_one_family_has_rules_of_that_family_only() -> None:
    assert {rule.family for rule in nat_rules(NETWORKS[1:], SUBNETS[1:])} == {None, 6}


def test_a_rule_as_nft_and_iptables_write_it() -> None:
    out = next(rule for rule in RULES if rule.action == "masquerade" and rule.family == 4)
    assert nft_text(out, True) == "ip saddr 10.42.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random"
    assert nft_text(out, False).endswith(" masquerade")
    words = iptables_words(out, fully_random=True)
    assert words[:5] == ["-s", "10.42.0.0/16", "!", "-d", "224.0.0.0/4"]
    assert words[-3:] == ["-j", "MASQUERADE", "--random-fully"]
    assert iptables_words(out, fully_random=False)[-1] == "MASQUERADE"


def test_other_ports_or_networks_make_another_comment() -> None:
    def comments(*networks: object, fully_random: bool = True) -> set[str]:
        table = nft_table(nat_rules(networks, SUBNETS), fully_random=fully_random)  # type: ignore[arg-type]
        return {rule.comment(table.name) for rule in table.chains[0].rules}

    assert comments(*NETWORKS) != comments(*NETWORKS, fully_random=False)
    assert comments(NETWORKS[0]) < comments(*NETWORKS)
