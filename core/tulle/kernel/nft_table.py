"""A table of ours: how it is wanted, the commands that make it so in one transaction, and whether what is listed is it.
Pure.

Each rule carries a comment of ours with a digest of its own text. What nft lists of a rule differs from version to
version, but a comment does not: the table is as wanted where the chains are, and the comments in each chain are those
wanted, in their order. Who replaces a rule, adds one or takes one away is noticed; after a restart too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tulle.kernel.nft_priorities import Place

COMMENT_BYTES = 128
"""NFTNL_UDATA_COMMENT_MAXLEN of nft, with its zero byte."""
DIGEST_DIGITS = 8


class Rule(msgspec.Struct, frozen=True):
    text: str
    """As nft(8) writes it, without a comment."""
    why: str
    """For people who list the table; no quotes."""

    def comment(self, owner: str) -> str:
        return marked(owner, self.text, self.why)


class Chain(msgspec.Struct, frozen=True):
    name: str
    rules: tuple[Rule, ...]
    place: Place | None = None
    """None: only others jump to it."""


class Table(msgspec.Struct, frozen=True):
    """`name` is its owner's mark, too."""

    family: str
    name: str
    chains: tuple[Chain, ...]

    @property
    def title(self) -> str:
        return f"{self.family} {self.name}"


def marked(owner: str, text: str, why: str) -> str:
    """The comment of a rule: "tulle-masq:3f2a91c0 pods to each other"."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]
    whole = f"{owner}:{digest} {why}".encode()[: COMMENT_BYTES - 1]
    return whole.decode(errors="ignore")


def is_marked(owner: str, comment: object) -> bool:
    """Whether a rule with that comment is this owner's."""
    return isinstance(comment, str) and comment.startswith(f"{owner}:")


def replacing(table: Table) -> str:
    """Commands that leave exactly this table, whatever there was: packets meet the old one or the new one."""
    lines = [*removing(table.family, table.name), f"table {table.family} {table.name} {{"]
    for chain in table.chains:
        lines.append(f"  chain {chain.name} {{")
        if chain.place is not None:
            lines.append(f"    {chain.place.text}")
        lines += [f'    {rule.text} comment "{rule.comment(table.name)}"' for rule in chain.rules]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def removing(family: str, name: str) -> list[str]:
    """Commands that leave no such table, whether or not there was one."""
    return [f"add table {family} {name}", f"delete table {family} {name}"]


def difference(table: Table, listed: Iterable[Mapping[str, Any]]) -> str:
    """What of `list table` (libnftables-json(5)) is not as wanted, for people; "" where all is."""
    heads: dict[str, Mapping[str, Any]] = {}
    comments: dict[str, list[object]] = {}
    for one in listed:
        if "chain" in one:
            heads[one["chain"].get("name", "")] = one["chain"]
        elif "rule" in one:
            comments.setdefault(one["rule"].get("chain", ""), []).append(one["rule"].get("comment"))
        elif "table" not in one:
            return f"it holds a {next(iter(one), 'thing')} that is not ours"
    return _chains_differ(table, heads) or _rules_differ(table, comments)


def _chains_differ(table: Table, heads: Mapping[str, Mapping[str, Any]]) -> str:
    for chain in table.chains:
        head = heads.get(chain.name)
        if head is None:
            return f"chain {chain.name} was missing"
        wanted = (None, None, None, None)
        if chain.place is not None:
            wanted = (chain.place.type, chain.place.hook, chain.place.priority, "accept")  # type: ignore[assignment]
        if (head.get("type"), head.get("hook"), head.get("prio"), head.get("policy")) != wanted:
            return f"chain {chain.name} was changed"
    foreign = sorted(set(heads) - {chain.name for chain in table.chains})
    return f"chain {foreign[0]} is not ours" if foreign else ""


def _rules_differ(table: Table, comments: Mapping[str, Sequence[object]]) -> str:
    for chain in table.chains:
        wanted = [rule.comment(table.name) for rule in chain.rules]
        if list(comments.get(chain.name, ())) != wanted:
            return f"rules of chain {chain.name} differed"
    return ""
