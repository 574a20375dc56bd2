"""`iptables-save` and `ip6tables-save` as chains (iptables-save(8)). Pure.

Beside nftables' own list they matter where iptables is the old one (its rules are in no nftables list), and where it
is the new one (nft shows its extensions as unknown).
"""

from __future__ import annotations

import shlex
from typing import Literal

from tulle.doctor.ruleset import Chain, Rule, Test, Verdict

TABLE = "filter"
HOOKS = {"INPUT": "input", "FORWARD": "forward", "OUTPUT": "output"}

_FIELDS = {"-s": "saddr", "-d": "daddr", "-i": "iif", "-o": "oif", "-p": "proto", "--dport": "dport"}
_FIELDS |= {"--ctstate": "state", "--state": "state"}
_NEUTRAL_MODULES = ("udp", "tcp", "comment", "conntrack", "state")
"""Extensions that select nothing by themselves; what their options select is known here, or unknown by option."""
_VERDICTS: dict[str, Verdict] = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
_GOES_ON = ("LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "CT", "NOTRACK", "SET", "TRACE")
_OTHER = ("QUEUE", "NFQUEUE")


def parse(text: str, tool: Literal["iptables", "ip6tables"]) -> list[Chain]:
    """The filter table's chains; a line that cannot be read becomes a rule that cannot be judged."""
    family = "ip" if tool == "iptables" else "ip6"
    table = ""
    policies: dict[str, str] = {}
    rules: dict[str, list[Rule]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif table != TABLE:
            continue
        elif line.startswith(":"):
            name, policy, *_ = [*line[1:].split(), "", ""]
            policies[name] = policy
        elif line.startswith("-A "):
            name, rule = _rule(line)
            rules.setdefault(name, []).append(rule)
    return [
        Chain(
            tool=tool,
            family=family,
            table=TABLE,
            name=name,
            hook=HOOKS.get(name, ""),
            policy="drop" if policy == "DROP" else "accept",
            rules=tuple(rules.get(name, ())),
        )
        for name, policy in policies.items()
    ]


def _rule(line: str) -> tuple[str, Rule]:
    try:
        words = shlex.split(line)
    except ValueError:  # a quote without its end
        words = line.split()
    chain, tests, verdict, target, comment = [*words, ""][1], [], "", "", ""
    position, negated = 2, False
    while position < len(words):
        word = words[position]
        value = words[position + 1] if position + 1 < len(words) else ""
        position += 1
        if word == "!":
            negated = True
            continue
        if word in _FIELDS:
            tests.append(Test(_FIELDS[word], _values(_FIELDS[word], value), negated))
            position += 1
        elif word in ("-j", "-g"):
            verdict, target = _verdict(word, value)
            position += 1
        elif word in ("-m", "--comment"):
            if word == "--comment":
                comment = value
            elif value not in _NEUTRAL_MODULES:
                tests.append(Test(""))
            position += 1
        elif verdict == "":
            tests.append(
                Test("")
            )  # an option, or its argument, that is not known; behind -j they are the target's
        negated = False
    known: Verdict = verdict  # type: ignore[assignment]  # "" or what _verdict gave
    return chain, Rule(tuple(tests), known, target, line, comment)


def _verdict(word: str, target: str) -> tuple[Verdict, str]:
    if target in _VERDICTS:
        return _VERDICTS[target], ""
    if target in _GOES_ON:
        return "", ""
    if target in _OTHER:
        return "other", ""
    return ("goto" if word == "-g" else "jump"), target


def _values(field: str, value: str) -> tuple[str, ...]:
    """In the words of `ruleset.Test`."""
    if field in ("iif", "oif"):
        return (value[:-1] + "*" if value.endswith("+") else value,)
    if field == "state":
        return tuple(one.lower() for one in value.split(","))
    if field == "dport":
        return (value.replace(":", "-"),)
    return (value,)
