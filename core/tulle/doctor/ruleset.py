"""Firewall chains, whoever wrote them, and what becomes of a packet in one. Pure.

Read from nftables or iptables into the same shape. A condition that cannot be judged (a set, a rate, an extension)
may hold or not: then an accept makes the outcome doubtful, and a drop is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Literal

import msgspec

Verdict = Literal["accept", "drop", "jump", "goto", "return", "other", ""]
"""drop: reject too. other: it may end the packet's way here in a way we cannot judge. "": the rule decides nothing."""

Packet = Mapping[str, str]
"""What is known of a packet, by field: family ("4"), iif, oif, saddr, daddr, proto, dport, state. A field that is
missing is not known."""


class Test(msgspec.Struct, frozen=True):
    """A condition of a rule: the field has one of the values. Values as people write them: "tulle*", "10.0.0.0/8",
    "8000-8999", "udp"."""

    __test__ = False  # for pytest: no class of tests

    field: str
    """"" for one that cannot be judged."""
    values: tuple[str, ...] = ()
    negated: bool = False


class Rule(msgspec.Struct, frozen=True):
    tests: tuple[Test, ...]
    verdict: Verdict
    target: str = ""
    """The chain of a jump or goto."""
    text: str = ""
    """For people."""
    comment: str = ""
    handle: int = 0
    """nftables' number of it in its table; 0 where there is none."""


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """`hook` is "" for a chain that only others jump to."""

    tool: Literal["nft", "iptables", "ip6tables"]
    family: str
    """nftables' word: "ip", "ip6" or "inet"."""
    table: str
    name: str
    hook: str = ""
    policy: Literal["accept", "drop"] = "accept"
    rules: tuple[Rule, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.family} {self.table} {self.name}"


Chains = Mapping[tuple[str, str, str], Chain]
"""By family, table and name."""


class Outcome(msgspec.Struct, frozen=True):
    """What a chain does with a packet."""

    verdict: Literal["accept", "drop"]
    because: str
    """The rule, or the policy."""
    sure: bool
    """False: a rule before it, which cannot be judged, may decide otherwise."""


class _End(msgspec.Struct, frozen=True):
    """How a walk through one chain ended: with a verdict, or "" at its end."""

    verdict: Literal["accept", "drop", ""]
    because: str
    doubt: bool


LOOP = _End("", "", True)
"""A chain that calls itself, which the kernel refuses, or that is not there."""


def outcome(chains: Chains, base: Chain, packet: Packet) -> Outcome:
    """Of a base chain for a packet of its family. Each chain is walked once, however many jump to it."""
    end = _walk(chains, base, packet, {})
    if end.verdict:
        return Outcome(end.verdict, end.because, not end.doubt)
    return Outcome(base.policy, f"policy {base.policy}", not end.doubt)


def _walk(chains: Chains, chain: Chain, packet: Packet, ends: dict[str, _End]) -> _End:
    """`ends`: of the chains of this table that were walked, by name; LOOP while a chain is being walked."""
    if chain.name not in ends:
        ends[chain.name] = LOOP
        ends[chain.name] = _first_end(chains, chain, packet, ends)
    return ends[chain.name]


def _first_end(chains: Chains, chain: Chain, packet: Packet, ends: dict[str, _End]) -> _End:
    doubt = False
    for rule in chain.rules:
        hit = _holds(rule, packet)
        if hit is False or not rule.verdict:
            continue
        if rule.verdict in ("jump", "goto"):
            called = chains.get((chain.family, chain.table, rule.target))
            end = _walk(chains, called, packet, ends) if called else LOOP
            doubt |= end.doubt
            if end.verdict and hit:
                return _End(end.verdict, end.because, doubt)
            if hit is None and end.verdict == "accept":
                doubt = True
            if hit and rule.verdict == "goto":
                return _End("", "", doubt)
        elif hit is None or rule.verdict == "other":
            doubt |= rule.verdict != "drop"
        elif rule.verdict == "return":
            return _End("", "", doubt)
        elif rule.verdict in ("accept", "drop"):
            return _End(rule.verdict, rule.text or rule.verdict, doubt)
    return _End("", "", doubt)


def _holds(rule: Rule, packet: Packet) -> bool | None:
    """None: it may or may not."""
    answers = [_test(one, packet) for one in rule.tests]
    if False in answers:
        return False
    return None if None in answers else True


def _test(test: Test, packet: Packet) -> bool | None:
    known = packet.get(test.field) if test.field else None
    if known is None:
        return None
    answers = [_same(test.field, value, known) for value in test.values]
    if True in answers:
        return not test.negated
    return None if None in answers else test.negated


def _same(field: str, value: str, known: str) -> bool | None:
    """Whether a packet's field is, or lies in, what a rule names."""
    try:
        if field in ("saddr", "daddr"):
            if "-" in value:
                first, _, last = value.partition("-")
                low, at, high = (int(ip_address(one)) for one in (first, known, last))
                return low <= at <= high
            network = ip_network(value, strict=False)
            address = ip_address(known)
            return address.version == network.version and address in network
        if field == "dport" and "-" in value:
            low, high = (int(one) for one in value.split("-"))
            return low <= int(known) <= high
    except ValueError:
        return None  # a name ("http"), or an address in some other writing
    if field in ("iif", "oif") and value.endswith("*"):
        return known.startswith(value[:-1])
    if field == "dport" and not value.isdigit():
        return None
    return known == value
