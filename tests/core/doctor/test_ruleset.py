"""What becomes of a packet in a chain."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.doctor.ruleset import Chain, Chains, Outcome, Packet, Rule, Test, Verdict, outcome

PACKET: Packet = {
    "family": "4",
    "iif": "tulle0",
    "saddr": "10.42.2.2",
    "daddr": "10.42.1.2",
    "proto": "udp",
    "dport": "8285",
    "state": "new",
}
UNKNOWN = Test("")


def chain(*rules: Rule, name: str = "base", policy: Literal["accept", "drop"] = "accept") -> Chain:
    return Chain(
        tool="nft",
        family="ip",
        table="t",
        name=name,
        hook="forward",
        policy=policy,
        rules=rules,
    )


def ended(base: Chain, *others: Chain) -> tuple[str, bool]:
    chains: Chains = {(one.family, one.table, one.name): one for one in (base, *others)}
    found = outcome(chains, base, PACKET)
    return found.verdict, found.sure


def rule(verdict: Verdict, *tests: Test, target: str = "") -> Rule:
    return Rule(tests, verdict, target)


@pytest.mark.parametrize(
    ("field", "values", "holds"),
    [
        ("iif", ("tulle0",), True),
        ("iif", ("tulle*",), True),
        ("iif", ("eth*", "cni0"), False),
        ("saddr", ("10.42.0.0/16",), True),
        ("saddr", ("10.42.2.0-10.42.2.9",), True),
        ("saddr", ("10.43.0.0/16", "10.44.0.0/16"), False),
        ("saddr", ("fd00::/8",), False),
        ("daddr", ("10.42.1.2",), True),
        ("proto", ("tcp", "udp"), True),
        ("dport", ("8000-9000",), True),
        ("dport", ("8285",), True),
        ("dport", ("53",), False),
        ("state", ("established", "related"), False),
        ("family", ("6",), False),
    ],
)
def test_a_condition_holds_or_does_not_and_negated_the_other_way(
    field: str, values: tuple[str, ...], holds: bool
) -> None:
    for negated in (False, True):
        base = chain(rule("drop", Test(field, values, negated)))
        assert ended(base) == ("drop" if holds != negated else "accept", True)


@pytest.mark.parametrize(
    "test", [UNKNOWN, Test("oif", ("eth0",)), Test("dport", ("http",)), Test("saddr", ("host.example",))]
)
def test_what_cannot_be_judged_makes_an_accept_doubtful_and_a_drop_unbelieved(test: Test) -> None:
    assert ended(chain(rule("accept", test), policy="drop")) == ("drop", False)
    assert ended(chain(rule("drop", test))) == ("accept", True)


def test_the_first_rule_that_decides_wins() -> None:
    assert ended(chain(rule(""), rule("accept"), rule("drop"), policy="drop")) == ("accept", True)
    assert ended(chain(rule("drop"), rule("accept"))) == ("drop", True)


def test_a_jump_comes_back_and_a_goto_does_not() -> None:
    other = chain(rule("return"), rule("drop"), name="other")
    assert ended(chain(rule("jump", target="other"), rule("drop")), other) == ("drop", True)
    assert ended(chain(rule("goto", target="other"), rule("drop")), other) == ("accept", True)
    assert ended(chain(rule("jump", target="no")), chain(rule("drop"), name="no")) == ("drop", True)


def test_a_return_in_a_base_chain_is_its_policy() -> None:
    assert ended(chain(rule("return"), rule("accept"), policy="drop")) == ("drop", True)


def test_a_jump_that_may_be_taken_to_an_accept_is_doubt() -> None:
    assert ended(
        chain(rule("jump", UNKNOWN, target="yes"), policy="drop"), chain(rule("accept"), name="yes")
    ) == ("drop", False)
    assert ended(chain(rule("jump", UNKNOWN, target="no")), chain(rule("drop"), name="no")) == (
        "accept",
        True,
    )


def test_a_drop_behind_doubt_in_a_called_chain_is_told_as_doubtful() -> None:
    called = chain(rule("accept", UNKNOWN), rule("drop"), name="called")
    assert ended(chain(rule("jump", target="called")), called) == ("drop", False)


def test_chains_that_call_each_other_for_ever_and_missing_ones_end_in_doubt() -> None:
    assert ended(chain(rule("jump", target="base"), policy="drop")) == ("drop", False)
    assert ended(chain(rule("jump", target="none"), policy="drop")) == ("drop", False)


def test_a_verdict_that_is_not_understood_is_doubt() -> None:
    assert ended(chain(rule("other"), policy="drop")) == ("drop", False)


def test_the_reason_is_the_rule_or_the_policy() -> None:
    base = chain(Rule((), "drop", "", "udp drop"))
    assert outcome({}, base, PACKET) == Outcome("drop", "udp drop", True)
    assert outcome({}, chain(policy="drop"), PACKET) == Outcome("drop", "policy drop", True)


def test_chains_that_jump_to_each_other_many_times_are_walked_once() -> None:
    """As Kubernetes' chains do: with one walk a jump this would take 8^16 steps."""
    called = [chain(*[rule("jump", target=f"c{level + 1}")] * 8, name=f"c{level}") for level in range(16)]
    assert ended(chain(rule("jump", target="c0"), policy="drop"), *called, chain(name="c16")) == (
        "drop",
        True,
    )


values = st.text("0123456789abcdef.:/-*", max_size=12)
tests = st.builds(
    Test,
    st.sampled_from(["", "iif", "oif", "saddr", "daddr", "proto", "dport", "state"]),
    st.tuples(values),
    st.booleans(),
)
verdicts: st.SearchStrategy[Verdict] = st.sampled_from(
    ["accept", "drop", "jump", "goto", "return", "other", ""]
)
rules = st.builds(Rule, st.lists(tests, max_size=2).map(tuple), verdicts, st.sampled_from(["a", "b", "c"]))


@given(st.lists(st.lists(rules, max_size=4), min_size=2, max_size=2))
def test_any_chains_have_an_outcome(bodies: list[list[Rule]]) -> None:
    chains = {("ip", "t", name): chain(*body, name=name) for name, body in zip("ab", bodies, strict=True)}
    assert outcome(chains, chains["ip", "t", "a"], PACKET).verdict in ("accept", "drop")
