"""nftables' JSON, as nft itself writes it and as it could not."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.doctor import nft
from tulle.doctor.ruleset import Chain, Rule, Test
from tulle.lab.namespaces import CLONE_NEWNET, unshare

RULES = """
table inet one {
  set named { type ipv4_addr; elements = { 10.0.0.1 } }
  chain fwd1 {
    type filter hook forward priority 0; policy drop;
    ct state established,related counter accept
    iifname "tulle*" oifname { "cni0", "cni1" } ip saddr 10.42.0.0/16 accept comment "pods"
    meta nfproto ipv6 udp dport 8000-9000 reject
    ip saddr @named drop
    limit rate 5/second accept
    tcp dport vmap { 22 : accept, 23 : drop }
    jump other
  }
  chain other { ip6 daddr != fd00::/8 log prefix "x" return; }
}
table ip two {
  chain post { type nat hook postrouting priority 100; masquerade; }
}
"""


@pytest.fixture
def listed() -> Iterator[str]:
    """RULES as this machine's nft lists them."""
    if shutil.which("nft") is None:
        pytest.skip("no nft: apt install nftables")
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(unshare, CLONE_NEWNET).result()
        except PermissionError:
            pytest.skip("needs root: a thread cannot make a network namespace otherwise")

        def run(*words: str, text: str = "") -> str:
            done = subprocess.run(["nft", *words], input=text, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout

        thread.submit(lambda: run("-f", "-", text=RULES)).result()
        yield thread.submit(lambda: run("-j", "list", "ruleset")).result()


def by_name(chains: list[Chain]) -> dict[str, Chain]:
    return {one.name: one for one in chains}


def test_what_nft_lists_is_read(listed: str) -> None:
    chains = by_name(nft.parse(listed))
    base = chains["fwd1"]
    assert (base.family, base.table, base.hook, base.policy) == ("inet", "one", "forward", "drop")
    assert chains["post"].hook == ""  # nat: it is not asked whether packets pass
    first, second, third, fourth, fifth, sixth, last = base.rules
    assert first.verdict == "accept"
    assert first.tests[0].field == "state"
    assert set(first.tests[0].values) == {"established", "related"}
    assert Test("iif", ("tulle*",)) in second.tests
    assert Test("oif", ("cni0", "cni1")) in second.tests
    assert Test("saddr", ("10.42.0.0/16",)) in second.tests
    assert third.verdict == "drop"
    assert Test("dport", ("8000-9000",)) in third.tests
    assert any(one.field == "family" and one.values == ("6",) for one in third.tests)
    assert Test("") in fourth.tests  # a named set is not looked into
    assert Test("") in fifth.tests  # nor is a rate
    assert sixth.verdict == "other"
    assert (last.verdict, last.target) == ("jump", "other")
    (only,) = chains["other"].rules
    assert only.verdict == "return"
    assert Test("daddr", ("fd00::/8",), True) in only.tests
    assert "(" not in second.text


def test_what_is_no_list_of_nftables_objects_is_an_error() -> None:
    for text in ("", "[]", "{}", '{"nftables": 1}'):
        with pytest.raises(ValueError, match=r"nftables|Expecting"):
            nft.parse(text)


def test_an_iptables_extension_is_a_condition_that_is_not_judged() -> None:
    head = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "type": "filter"}
    rule = {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": [{"xt": None}, {"accept": None}]}
    (found,) = nft.parse(json.dumps({"nftables": [{"chain": head}, {"rule": rule}]}))
    assert found.rules == (Rule((Test(""),), "accept", "", "(xt) accept"),)


statements: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["match", "left", "right", "op", "meta", "key", "set", "jump", "target", "drop"]),
            inner,
        )
    ),
    max_leaves=8,
)


@given(st.lists(statements, max_size=4))
def test_rules_in_any_other_shape_are_read_or_refused_with_a_reason(expr: list[Any]) -> None:
    rule = {"family": "ip", "table": "t", "chain": "c", "expr": expr}
    with contextlib.suppress(ValueError):
        assert nft.parse(json.dumps({"nftables": [{"rule": rule}]})) == []


def test_comments_and_handles_are_kept(listed: str) -> None:
    rules = [rule for chain in nft.parse(listed) for rule in chain.rules]
    assert [rule.comment for rule in rules].count("pods") == 1
    assert all(rule.handle > 0 for rule in rules)
