"""Where a firewall chain of somebody else drops what pods need, and the accept rules that we put at its head. Pure.

An accept in a table of ours helps nothing: it ends our own base chain only, and a drop anywhere is final. So the rule
must stand in the chain that drops; in DOCKER-USER where that chain asks it first, since Docker leaves that to others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from tulle.doctor.ruleset import Chain, Chains, Packet, Rule, outcome
from tulle.kernel.nft_table import is_marked, marked
from tulle.net.prefix import Prefix
from tulle_masquerade.rules import OWNER, WORDS

USERS_CHAIN = "DOCKER-USER"
HOOK = "forward"
POD = 2
"""A pod's address in its subnet, for a packet of an example: 0 is the tunnel's, 1 the bridge's."""

Key = tuple[str, str, str]
"""Family, table and name of a chain."""


class Accept(msgspec.Struct, frozen=True):
    """Packets from ("saddr") or to ("daddr") a cluster network pass."""

    network: Prefix
    end: str

    @property
    def why(self) -> str:
        return "from pods" if self.end == "saddr" else "to pods"

    @property
    def nft(self) -> str:
        return f"{WORDS[self.network.version]} {self.end} {self.network} accept"

    @property
    def comment(self) -> str:
        return marked(OWNER, self.nft, self.why)

    @property
    def iptables(self) -> str:
        """Without the chain."""
        option = "-s" if self.end == "saddr" else "-d"
        return f'{option} {self.network} -m comment --comment "{self.comment}" -j ACCEPT'


class Change(msgspec.Struct, frozen=True):
    """Of one chain: our rules that go, then those that come to its head, the first one first."""

    chain: Chain
    remove: tuple[Rule, ...]
    add: tuple[Accept, ...]

    @property
    def title(self) -> str:
        tool = "" if self.chain.tool == "nft" else f" ({self.chain.tool})"
        return f"chain {self.chain.title}{tool}"

    @property
    def line(self) -> str:
        if self.add:
            networks = ", ".join(dict.fromkeys(str(one.network) for one in self.add))
            return f"{self.title}: it drops, so packets from and to {networks} are accepted at its head"
        return f"{self.title}: our accept rules removed"


def accepts(networks: Iterable[Prefix]) -> tuple[Accept, ...]:
    return tuple(Accept(network, end) for network in networks for end in ("saddr", "daddr"))


def needed(networks: Sequence[Prefix], subnets: Sequence[Prefix]) -> list[Packet]:
    """An example of each kind of packet that must be forwarded here: between pods of two nodes, and out. By which
    interfaces is not said, so that a rule for one interface decides nothing."""
    found: list[Packet] = []
    for subnet in subnets:
        here = str(subnet[min(POD, subnet.num_addresses - 1)])
        family = {"family": str(subnet.version), "proto": "tcp", "state": "new"}
        for network in networks:
            if network.version == subnet.version:
                there = str(network[-2])
                found += [
                    {**family, "saddr": here, "daddr": there},
                    {**family, "saddr": there, "daddr": here},
                ]
        found.append({**family, "saddr": here})
    return found


def changes(chains: Chains, wanted: Sequence[Accept], packets: Sequence[Packet]) -> Iterator[Change]:
    """What is to be changed so that each packet passes, and nothing of ours is left where it is not needed.

    Where ours stand and packets pass, they stay where they are: two who both want the head of a chain would never
    end."""
    bare = {key: _without_ours(chain) for key, chain in chains.items()}
    targets: dict[Key, tuple[Accept, ...]] = {}
    passing: set[Key] = set()
    for key, base in chains.items():
        if base.hook != HOOK:
            continue
        concerned = [one for one in packets if _concerns(base, one)]
        versions = {one["family"] for one in concerned if _drops(bare, bare[key], one)}
        if versions:
            target = _head(bare, bare[key])
            targets[target] = tuple(one for one in wanted if str(one.network.version) in versions)
            if not any(_drops(chains, base, one) for one in concerned if one["family"] in versions):
                passing.add(target)
    for key, chain in chains.items():
        ours = tuple(rule for rule in chain.rules if is_marked(OWNER, rule.comment))
        want = targets.get(key, ())
        same = [rule.comment for rule in ours] == [one.comment for one in want]
        if not same or (want and key not in passing):
            yield Change(chain, ours, want)


def _without_ours(chain: Chain) -> Chain:
    return msgspec.structs.replace(
        chain, rules=tuple(rule for rule in chain.rules if not is_marked(OWNER, rule.comment))
    )


def _concerns(chain: Chain, packet: Packet) -> bool:
    return chain.family == "inet" or chain.family == ("ip" if packet["family"] == "4" else "ip6")


def _drops(chains: Chains, base: Chain, packet: Packet) -> bool:
    return outcome(chains, base, packet).verdict == "drop"


def _head(chains: Mapping[Key, Chain], base: Chain) -> Key:
    """The chain that our rules go into."""
    users = (base.family, base.table, USERS_CHAIN)
    asked = any(rule.target == USERS_CHAIN and not rule.tests for rule in base.rules)
    return users if asked and users in chains else (base.family, base.table, base.name)


# Commands


def nft_commands(change: Change) -> str:
    """Handles stay valid until then, or the whole transaction is refused."""
    place = f"{change.chain.family} {change.chain.table} {change.chain.name}"
    lines = [f"delete rule {place} handle {rule.handle}" for rule in change.remove]
    lines += [
        f'insert rule {place} {one.nft.removesuffix("accept")}counter accept comment "{one.comment}"'
        for one in reversed(change.add)
    ]
    return "\n".join([*lines, ""])


def iptables_commands(change: Change) -> list[str]:
    """Lines for iptables-restore, in the table filter."""
    name = change.chain.name
    lines = [f"-D {rule.text.removeprefix('-A ')}" for rule in change.remove]
    return lines + [f"-I {name} 1 {one.iptables}" for one in reversed(change.add)]
