"""`nft -j list ruleset` as chains (libnftables-json(5)). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tulle.doctor.ruleset import Chain, Rule, Test, Verdict

FAMILIES = ("ip", "ip6", "inet")
"""Those whose hooks forwarded and received IP packets pass."""

_META = {"iifname": "iif", "oifname": "oif", "iif": "iif", "oif": "oif", "l4proto": "proto"}
_NFPROTO = {"ipv4": "4", "ipv6": "6", "ip": "4", "ip6": "6"}
_SILENT = ("counter", "log", "comment", "mangle", "notrack", "ct helper", "flow", "dup", "secmark")
"""Statements that neither decide nor select."""
_VERDICTS: Mapping[str, Verdict] = {
    "accept": "accept",
    "drop": "drop",
    "reject": "drop",
    "return": "return",
    "jump": "jump",
    "goto": "goto",
}


def parse(text: str) -> list[Chain]:
    """Raises ValueError where it is not such JSON; a statement that is not known becomes one that cannot be judged."""
    try:
        return _chains(text)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"nft's list has another shape than it should have ({error!r})") from error


def _chains(text: str) -> list[Chain]:
    listed = json.loads(text)
    if not isinstance(listed, dict) or not isinstance(listed.get("nftables"), list):
        raise ValueError("it is not a list of nftables objects")
    return chains(listed["nftables"])


def chains(listed: Iterable[Mapping[str, Any]]) -> list[Chain]:
    """Of nftables objects. Raises KeyError, TypeError, AttributeError or IndexError where they are none."""
    rules: dict[tuple[str, str, str], list[Rule]] = {}
    heads: list[dict[str, Any]] = []
    for one in listed:
        if "chain" in one and one["chain"].get("family") in FAMILIES:
            heads.append(one["chain"])
        elif "rule" in one and one["rule"].get("family") in FAMILIES:
            rule = one["rule"]
            made = msgspec.structs.replace(
                _rule(rule.get("expr", [])), comment=rule.get("comment", ""), handle=rule.get("handle", 0)
            )
            rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(made)
    return [
        Chain(
            tool="nft",
            family=head["family"],
            table=head["table"],
            name=head["name"],
            hook=head.get("hook", "") if head.get("type") == "filter" else "",
            policy="drop" if head.get("policy") == "drop" else "accept",
            rules=tuple(rules.get((head["family"], head["table"], head["name"]), ())),
        )
        for head in heads
    ]


def _rule(statements: list[Any]) -> Rule:
    tests: list[Test] = []
    verdict: Verdict = ""
    target = ""
    words: list[str] = []
    for statement in statements:
        name, content = _statement(statement)
        if name == "match":
            found = _match(content)
            tests += found
            words += [_text(one) for one in found]
        elif name in _VERDICTS:
            verdict = _VERDICTS[name]
            target = content["target"] if verdict in ("jump", "goto") else ""
            tests += _rejected(content) if name == "reject" else []
            words.append(f"{name} {target}".strip())
        elif name == "vmap":
            verdict = "other"
        elif name not in _SILENT:
            tests.append(Test(""))
            words.append(f"({name or 'unknown'})")
    return Rule(tuple(tests), verdict, target, " ".join(words))


def _rejected(content: Any) -> list[Test]:
    """nft leaves a match of the family out where the kind of reject implies it."""
    kind = content.get("type", "") if isinstance(content, dict) else ""
    family = {"icmp": "4", "icmpv6": "6"}.get(kind)
    return [Test("family", (family,))] if family else []


def _statement(statement: Any) -> tuple[str, Any]:
    """Its name and what belongs to it. A verdict without arguments is {"accept": null}."""
    if isinstance(statement, dict) and statement:
        name, content = next(iter(statement.items()))
        return str(name), content
    return "", None


def _match(content: dict[str, Any]) -> list[Test]:
    """A payload match of one family holds for that family's packets only."""
    field, family = _field(content["left"])
    values = _values(content["right"])
    if field == "family":
        values = tuple(_NFPROTO.get(one, one) for one in values)
    implied = [Test("family", (family,))] if family else []
    if not field or not values:
        return [*implied, Test("")]
    return [*implied, Test(field, values, content.get("op") == "!=")]


def _field(left: Any) -> tuple[str, str]:
    """(our name of the field, the family it implies)."""
    if not isinstance(left, dict):
        return "", ""
    if "meta" in left:
        key = left["meta"]["key"]
        return ("family" if key in ("nfproto", "protocol") else _META.get(key, "")), ""
    if "ct" in left:
        return ("state" if left["ct"].get("key") == "state" else ""), ""
    payload = left.get("payload", {})
    protocol, field = payload.get("protocol", ""), payload.get("field", "")
    if protocol in ("ip", "ip6"):
        ours = {"saddr": "saddr", "daddr": "daddr", "protocol": "proto", "nexthdr": "proto"}.get(field, "")
        return ours, _NFPROTO[protocol]
    if protocol in ("udp", "tcp", "th") and field == "dport":
        return "dport", ""
    return "", ""


def _values(right: Any) -> tuple[str, ...]:
    """Empty where it is not plain values (a named set, an expression)."""
    if isinstance(right, str):
        return () if right.startswith("@") else (right,)
    if isinstance(right, int):
        return (str(right),)
    if isinstance(right, list):
        each = [_values(one) for one in right]
        return () if () in each else tuple(value for values in each for value in values)
    if isinstance(right, dict):
        if "set" in right:
            return _values(right["set"])
        if "prefix" in right:
            return (f"{right['prefix']['addr']}/{right['prefix']['len']}",)
        if "range" in right:
            return (f"{right['range'][0]}-{right['range'][1]}",)
    return ()


def _text(test: Test) -> str:
    if not test.field:
        return "(a condition that is not read here)"
    values = test.values[0] if len(test.values) == 1 else "{" + ", ".join(test.values) + "}"
    return f"{test.field} {'!= ' if test.negated else ''}{values}"
