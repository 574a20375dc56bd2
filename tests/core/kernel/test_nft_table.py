"""A table as wanted and as nft lists it; the listing is made by nft itself."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tulle.kernel.nft import Nft
from tulle.kernel.nft_priorities import PLACES
from tulle.kernel.nft_table import (
    COMMENT_BYTES,
    Chain,
    Rule,
    Table,
    difference,
    is_marked,
    marked,
    removing,
    replacing,
)

PLACE = PLACES["masquerade"]
TABLE = Table(
    "inet",
    "mine",
    (
        Chain(
            "postrouting",
            (
                Rule("ip saddr 10.0.0.0/8 ip daddr 10.0.0.0/8 return", "inside"),
                Rule("ip saddr 10.0.0.0/8 masquerade fully-random", "out"),
            ),
            PLACE,
        ),
        Chain("other", (Rule("ip6 daddr fd00::/8 accept", "six"),)),
    ),
)


def run(*words: str) -> None:
    subprocess.run(["nft", *words], check=True)


async def apply_and_list(commands: str) -> list[Any]:
    nft = Nft()
    try:
        await nft.apply(commands)
        return await nft.listed("table inet mine")
    finally:
        nft.close()


def test_what_replacing_makes_differs_in_nothing_whatever_was_there(netns: Any) -> None:
    assert difference(TABLE, netns.run(apply_and_list(replacing(TABLE)))) == ""
    netns.call(run, "add", "chain", "inet", "mine", "theirs")
    assert difference(TABLE, netns.run(apply_and_list(replacing(TABLE)))) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("add rule inet mine other drop", "rules of chain other differed"),
        ("insert rule inet mine postrouting counter", "rules of chain postrouting differed"),
        ("flush chain inet mine other", "rules of chain other differed"),
        ("add chain inet mine theirs", "chain theirs is not ours"),
        ("delete chain inet mine other", "chain other was missing"),
        ("add chain inet mine postrouting { policy drop ; }", "chain postrouting was changed"),
        ("add set inet mine s { type ipv4_addr ; }", "it holds a set that is not ours"),
    ],
)
def test_what_others_change_is_seen_and_said(netns: Any, change: str, said: str) -> None:
    netns.run(apply_and_list(replacing(TABLE)))
    if change.startswith("delete chain"):
        netns.call(run, "flush", "chain", "inet", "mine", "other")
    netns.call(run, change)
    assert difference(TABLE, netns.run(apply_and_list(""))) == said


def test_a_replaced_rule_is_seen(netns: Any) -> None:
    listed = netns.run(apply_and_list(replacing(TABLE)))
    handle = next(one["rule"]["handle"] for one in listed if "rule" in one)
    netns.call(run, f"replace rule inet mine postrouting handle {handle} drop")
    assert "postrouting differed" in difference(TABLE, netns.run(apply_and_list("")))


def test_removing_leaves_nothing_also_where_there_was_nothing(netns: Any) -> None:
    async def remove() -> set[tuple[str, str]]:
        nft = Nft()
        try:
            await nft.apply("\n".join([*removing("inet", "mine"), ""]))
            return await nft.tables()
        finally:
            nft.close()

    assert netns.run(remove()) == set()
    netns.run(apply_and_list(replacing(TABLE)))
    assert netns.run(remove()) == set()


def test_another_rule_has_another_comment_and_the_same_has_the_same() -> None:
    assert marked("o", "ip saddr 10.0.0.0/8 accept", "x") != marked("o", "ip saddr 10.0.0.0/9 accept", "x")
    assert marked("o", "accept", "x") == marked("o", "accept", "x")


def test_a_comment_is_never_longer_than_nft_takes() -> None:
    comment = marked("owner", "accept", "ä" * 200)
    assert len(comment.encode()) < COMMENT_BYTES
    assert is_marked("owner", comment)


@pytest.mark.parametrize("comment", [None, 5, "", "owner", "another:12345678 x"])
def test_comments_of_others_are_not_ours(comment: object) -> None:
    assert not is_marked("owner", comment)
