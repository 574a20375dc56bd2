"""Which packets are masqueraded, in order, for both families alike; and each rule as nftables and iptables write it.
Pure.

    from               to                          what
    anybody            anybody, marked 0x4000      left: kube-proxy masquerades these itself
    the cluster        the cluster                 left: a pod sees the pod's own address
    anybody            this node's subnet          left: a pod sees who really asks
    the cluster        anybody but multicast       masqueraded: the way out
    not the cluster    the cluster                 masqueraded: a node's own packets to pods of others, so that the
                                                   answer comes back by the same tunnel

The effect is flannel's. Its nftables form has the last two in an order in which the last is never reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import Literal

import msgspec

from tulle.kernel.nft_priorities import PLACES
from tulle.kernel.nft_table import Chain, Rule, Table, marked
from tulle.net.prefix import Family, Prefix

OWNER = "tulle-masq"
"""Our table's name, and what the comments of all our rules begin with. Never change it: it is how an older tulled's
rules are recognised."""
TABLE_FAMILY = "inet"

KUBE_MARK = 0x4000
"""Bit 14, kube-proxy's --iptables-masquerade-bit and flannel's."""

MULTICAST: dict[Family, Prefix] = {
    4: ip_network("224.0.0.0/4"),  # RFC 5771 section 3
    6: ip_network("ff00::/8"),  # RFC 4291 section 2.7
}

WORDS: dict[Family, str] = {4: "ip", 6: "ip6"}


class NatRule(msgspec.Struct, frozen=True):
    """What a packet must be, and what becomes of it. A prefix that is None is not looked at."""

    action: Literal["return", "masquerade"]
    why: str
    family: Family | None = None
    """None: either."""
    source: Prefix | None = None
    source_outside: bool = False
    destination: Prefix | None = None
    destination_outside: bool = False
    mark: int = 0
    """All of these bits are set."""


def nat_rules(networks: Sequence[Prefix], subnets: Sequence[Prefix]) -> tuple[NatRule, ...]:
    """In order. `networks`: the cluster's; `subnets`: this node's."""
    marked_rule = NatRule("return", "marked by kube-proxy, which masquerades them", mark=KUBE_MARK)
    return (marked_rule, *(rule for network in networks for rule in _of_family(network, subnets)))


def _of_family(network: Prefix, subnets: Sequence[Prefix]) -> Iterator[NatRule]:
    family = network.version
    yield NatRule("return", "from pods to pods", family, network, destination=network)
    for subnet in subnets:
        if subnet.version == family:
            yield NatRule("return", "to pods of this node", family, destination=subnet)
    yield NatRule(
        *("masquerade", "from pods to the world", family, network),
        destination=MULTICAST[family],
        destination_outside=True,
    )
    yield NatRule("masquerade", "from the world to pods of other nodes", family, network, True, network)


# nftables


def nft_table(rules: Sequence[NatRule], *, fully_random: bool) -> Table:
    made = tuple(Rule(nft_text(rule, fully_random), rule.why) for rule in rules)
    return Table(TABLE_FAMILY, OWNER, (Chain("postrouting", made, PLACES["masquerade"]),))


def nft_text(rule: NatRule, fully_random: bool) -> str:
    words = [f"meta mark & {rule.mark:#x} == {rule.mark:#x}"] if rule.mark else []
    for end, prefix, outside in _ends(rule, "saddr", "daddr"):
        words.append(f"{WORDS[prefix.version]} {end} {'!= ' if outside else ''}{prefix}")
    action = "masquerade fully-random" if rule.action == "masquerade" and fully_random else rule.action
    return " ".join([*words, action])


def _ends(rule: NatRule, source: str, destination: str) -> Iterator[tuple[str, Prefix, bool]]:
    if rule.source is not None:
        yield source, rule.source, rule.source_outside
    if rule.destination is not None:
        yield destination, rule.destination, rule.destination_outside


# iptables


def iptables_words(rule: NatRule, *, fully_random: bool) -> list[str]:
    """Without the chain, with our comment."""
    words = ["-m", "mark", "--mark", f"{rule.mark:#x}/{rule.mark:#x}"] if rule.mark else []
    for option, prefix, outside in _ends(rule, "-s", "-d"):
        words += [*(["!"] if outside else []), option, str(prefix)]
    target = {"return": ["RETURN"], "masquerade": ["MASQUERADE"]}[rule.action]
    if rule.action == "masquerade" and fully_random:
        target.append("--random-fully")
    comment = marked(OWNER, " ".join([*words, *target]), rule.why)
    return [*words, "-m", "comment", "--comment", f'"{comment}"', "-j", *target]
