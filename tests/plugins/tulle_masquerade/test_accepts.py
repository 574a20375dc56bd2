"""Which chains of others get accept rules of ours, and which do not."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, Literal

import msgspec
import pytest

from tulle.doctor import iptables
from tulle.doctor.ruleset import Chain, Rule, Test
from tulle_masquerade.accepts import Change, accepts, changes, iptables_commands, needed, nft_commands

NETWORKS = (ip_network("10.42.0.0/16"), ip_network("fd42::/48"))
SUBNETS = (ip_network("10.42.1.0/24"), ip_network("fd42:0:0:1::/64"))
WANTED = accepts(NETWORKS)
PACKETS = needed(NETWORKS, SUBNETS)
FOUR = WANTED[:2]


def base(
    family: str = "inet", policy: Literal["accept", "drop"] = "drop", *rules: Rule, **rest: Any
) -> Chain:
    given = {"table": "fw", "name": "forward", "hook": "forward"} | rest
    return Chain(tool="nft", family=family, policy=policy, rules=rules, **given)


def found(*chains: Chain, wanted: Any = WANTED) -> list[Change]:
    by_key = {(one.family, one.table, one.name): one for one in chains}
    return list(changes(by_key, wanted, PACKETS if wanted else ()))


def applied(change: Change) -> Chain:
    """The chain as the change leaves it."""
    ours = [Rule((Test("family", (str(one.network.version),)), Test(one.end, (str(one.network),))), "accept",
                 comment=one.comment, handle=number) for number, one in enumerate(change.add, 100)]  # fmt: skip
    rest = [rule for rule in change.chain.rules if rule not in change.remove]
    return msgspec.structs.replace(change.chain, rules=(*ours, *rest))


@pytest.mark.parametrize(("family", "count"), [("ip", 2), ("ip6", 2), ("inet", 4)])
def test_a_chain_that_drops_gets_those_of_its_families(family: str, count: int) -> None:
    (change,) = found(base(family))
    assert len(change.add) == count
    assert change.remove == ()


@pytest.mark.parametrize(
    "chain",
    [
        base(policy="accept"),
        base(hook="input"),
        base("inet", "drop", Rule((), "accept")),
        base("inet", "drop", Rule((Test("saddr", ("10.42.0.0/16",)),), "accept"),
             Rule((Test("daddr", ("10.42.0.0/16",)),), "accept"), Rule((Test("family", ("6",)),), "accept")),
    ],
    ids=["accepts", "another hook", "accepts by rule", "accepts the cluster already"],
)  # fmt: skip
def test_a_chain_that_drops_nothing_of_pods_is_left_alone(chain: Chain) -> None:
    assert found(chain) == []


def test_a_rule_that_drops_counts_as_a_policy_does() -> None:
    (change,) = found(base("ip", "accept", Rule((Test("saddr", ("10.0.0.0/8",)),), "drop")))
    assert change.add == FOUR


def test_what_a_chain_drops_from_outside_alone_stays_dropped() -> None:
    """Whoever closes his pods to the world means it."""
    assert found(base("ip", "accept", Rule((Test("saddr", ("198.51.100.0/24",)),), "drop"))) == []


def test_a_changed_chain_needs_no_second_change() -> None:
    (change,) = found(base())
    assert found(applied(change)) == []


def test_ours_go_where_the_chain_no_longer_drops_or_nothing_is_wanted() -> None:
    (change,) = found(base("ip"))
    after = applied(change)
    for chain, wanted in ((msgspec.structs.replace(after, policy="accept"), WANTED), (after, ())):
        (back,) = found(chain, wanted=wanted)
        assert (back.add, len(back.remove)) == ((), 2)
        assert "removed" in back.line


def test_ours_of_another_network_are_replaced() -> None:
    (change,) = found(base("ip"), wanted=accepts([ip_network("10.99.0.0/16")]))
    (again,) = found(applied(change))
    assert len(again.remove) == 2
    assert again.add == FOUR


def test_ours_come_to_the_head_again_where_a_drop_has_come_before_them() -> None:
    (change,) = found(base("ip"))
    after = applied(change)
    before = msgspec.structs.replace(after, rules=(Rule((), "drop"), *after.rules))
    (again,) = found(before)
    assert (len(again.remove), again.add) == (2, FOUR)


def test_ours_stay_behind_a_rule_that_harms_nobody() -> None:
    (change,) = found(base("ip"))
    after = applied(change)
    assert found(msgspec.structs.replace(after, rules=(Rule((), ""), *after.rules))) == []


DOCKER = """*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
:DOCKER-FORWARD - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-USER -j RETURN
-A DOCKER-FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""


def test_beside_docker_they_stand_in_the_chain_that_it_leaves_to_users() -> None:
    (change,) = found(*iptables.parse(DOCKER, "iptables"))
    assert change.chain.name == "DOCKER-USER"
    assert iptables_commands(change) == [
        f"-I DOCKER-USER 1 {FOUR[1].iptables}",
        f"-I DOCKER-USER 1 {FOUR[0].iptables}",
    ]


def test_a_users_chain_that_nobody_asks_any_more_is_not_used() -> None:
    (change,) = found(*iptables.parse(DOCKER.replace("-A FORWARD -j DOCKER-USER\n", ""), "iptables"))
    assert change.chain.name == "FORWARD"


def test_what_iptables_shows_of_ours_is_known_again_and_deleted_as_it_stands() -> None:
    ours = "\n".join(f"-A DOCKER-USER {one.iptables}" for one in FOUR)
    text = DOCKER.replace("-A DOCKER-USER -j RETURN", f"{ours}\n-A DOCKER-USER -j RETURN")
    chains = iptables.parse(text, "iptables")
    assert found(*chains) == []
    (back,) = found(*chains, wanted=())
    assert iptables_commands(back) == [f"-D DOCKER-USER {one.iptables}" for one in FOUR]


def test_commands_of_nft_delete_by_handle_and_insert_in_order() -> None:
    (change,) = found(base("ip"), wanted=accepts([ip_network("10.99.0.0/16")]))
    (again,) = found(applied(change))
    assert nft_commands(again).splitlines() == [
        "delete rule ip fw forward handle 100",
        "delete rule ip fw forward handle 101",
        f'insert rule ip fw forward ip daddr 10.42.0.0/16 counter accept comment "{FOUR[1].comment}"',
        f'insert rule ip fw forward ip saddr 10.42.0.0/16 counter accept comment "{FOUR[0].comment}"',
    ]


def test_the_examples_are_packets_between_nodes_and_to_the_world() -> None:
    assert [(one.get("saddr"), one.get("daddr")) for one in PACKETS[:3]] == [
        ("10.42.1.2", "10.42.255.254"),
        ("10.42.255.254", "10.42.1.2"),
        ("10.42.1.2", None),
    ]
    assert {one["family"] for one in PACKETS} == {"4", "6"}
