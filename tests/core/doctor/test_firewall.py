"""From chains to findings."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from tulle.contracts.doctor import DoctorContext
from tulle.doctor.firewall import judge, needs
from tulle.doctor.ruleset import Chain, Rule, Test, outcome

MakeContext = Callable[..., DoctorContext]


def chain(**different: Any) -> Chain:
    how = {
        "tool": "nft",
        "family": "inet",
        "table": "other",
        "name": "c",
        "hook": "forward",
        "policy": "drop",
    }
    return Chain(**(how | different))


def findings(context: DoctorContext, *chains: Chain) -> list[tuple[str, str]]:
    by_key = {(one.family, one.table, one.name): one for one in chains}
    return [(one.severity, one.mend) for one in judge(by_key, needs(context), context, ["nft"])]


def test_what_must_pass_is_pods_packets_both_ways_and_the_datagrams_both_ways(context: DoctorContext) -> None:
    found = needs(context)
    assert [one.hook for one in found] == ["forward", "forward", "input", "output"]
    out, back, _, _ = (one.packet for one in found)
    assert (out["saddr"], out["daddr"], out["oif"]) == ("10.42.1.2", "10.42.2.2", "tulle0")
    assert (back["saddr"], back["daddr"], back["iif"]) == ("10.42.2.2", "10.42.1.2", "tulle0")


def test_without_subnets_or_port_nothing_must_pass(make_context: MakeContext) -> None:
    assert needs(make_context(subnets=(), port=0)) == []


def test_a_node_without_peers_takes_the_far_end_of_the_network(make_context: MakeContext) -> None:
    assert needs(make_context(peers=()))[0].packet["daddr"] == "10.42.255.254"


def test_chains_that_let_pass_are_ok(context: DoctorContext) -> None:
    assert findings(context, chain(policy="accept"), chain(name="d", hook="")) == [("ok", "")]


def test_a_forward_policy_is_mended_by_accepting_the_cluster_both_ways(context: DoctorContext) -> None:
    ((severity, mend),) = findings(context, chain())
    assert severity == "error"
    assert mend.startswith(
        "nft insert rule inet other c ip saddr 10.42.0.0/16 accept; "
        "nft insert rule inet other c ip daddr 10.42.0.0/16 accept  #"
    )


@pytest.mark.parametrize(("hook", "flag"), [("input", "udp dport 8285"), ("output", "udp dport 8285")])
def test_dropped_datagrams_are_mended_by_accepting_the_port(
    context: DoctorContext, hook: str, flag: str
) -> None:
    ((_, mend),) = findings(context, chain(hook=hook))
    assert mend.startswith(f"nft insert rule inet other c {flag} accept  #")


def test_iptables_chains_are_mended_with_iptables(context: DoctorContext) -> None:
    how = {"tool": "iptables", "family": "ip", "table": "filter"}
    found = findings(context, chain(name="FORWARD", **how), chain(name="INPUT", hook="input", **how))
    assert found[0][1].startswith("iptables -I FORWARD -s 10.42.0.0/16 -j ACCEPT; iptables -I FORWARD -d")
    assert found[1][1].startswith("iptables -I INPUT -p udp --dport 8285 -j ACCEPT")


def test_a_chain_of_the_other_family_does_not_matter(context: DoctorContext) -> None:
    assert findings(context, chain(family="ip6")) == [("ok", "")]


def test_ipv6_pods_are_mended_in_their_family(make_context: MakeContext) -> None:
    both = (ip_network("10.42.0.0/16"), ip_network("fd42::/48"))
    own = (ip_network("10.42.1.0/24"), ip_network("fd42:0:0:1::/64"))
    ((_, mend),) = findings(make_context(networks=both, subnets=own), chain(family="ip6"))
    assert mend.startswith("nft insert rule ip6 other c ip6 saddr fd42::/48 accept; ")
    assert "10.42" not in mend


def test_a_drop_that_is_not_certain_is_a_warning_that_says_so(context: DoctorContext) -> None:
    doubtful = chain(rules=(Rule((Test(""),), "accept"),))
    by_key = {("inet", "other", "c"): doubtful}
    (found,) = judge(by_key, needs(context), context, ["nft"])
    assert found.severity == "warning"
    assert "not understood" in found.what


def test_with_the_printed_rules_at_its_head_the_chain_lets_everything_needed_pass(
    context: DoctorContext,
) -> None:
    mended = chain(
        rules=(
            Rule((Test("family", ("4",)), Test("saddr", ("10.42.0.0/16",))), "accept"),
            Rule((Test("family", ("4",)), Test("daddr", ("10.42.0.0/16",))), "accept"),
        )
    )
    for one in needs(context):
        if one.hook == "forward":
            assert outcome({}, mended, one.packet).verdict == "accept"


def test_each_port_of_the_backend_must_pass(make_context: Callable[..., DoctorContext]) -> None:
    found = needs(make_context(port=7, ports=(7, 9)))
    assert {one.packet["dport"] for one in found if one.hook == "input"} == {"7", "9"}
