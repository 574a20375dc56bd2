"""Our chain of the table nat, by text and by iptables itself; both kinds of iptables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from tulle_masquerade.iptables import CHAIN, Iptables, IptablesError, Kind, kinds, removal, setting
from tulle_masquerade.rules import nat_rules

RULES = nat_rules(
    (ip_network("10.42.0.0/16"), ip_network("fd42::/48")),
    (ip_network("10.42.1.0/24"), ip_network("fd42:0:0:1::/64")),
)
FOUR = [one for one in RULES if one.family in (None, 4)]
Shell = Callable[[str], str]


def of_kind(kind: Kind) -> Iptables:
    return Iptables(kind, f"iptables-{kind}")


def test_where_nothing_is_all_is_set_and_nothing_is_removed() -> None:
    orders = setting([], FOUR, fully_random=True)
    assert orders[0] == f":{CHAIN} - [0:0]"
    assert orders[-1].startswith("-A POSTROUTING ")
    assert orders[-1].endswith(f"-j {CHAIN}")
    assert removal([]) == []
    assert removal(["*nat", ":POSTROUTING ACCEPT [0:0]", "-A POSTROUTING -j MASQUERADE", "COMMIT"]) == []


@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_what_is_set_is_found_to_be_so_and_what_others_change_is_mended(shell: Shell, kind: Kind) -> None:
    async def run() -> None:
        tables = of_kind(kind)
        shell(f"iptables-{kind} -t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE")
        assert len(await tables.settle(RULES)) == 2
        assert await tables.settle(RULES) == []
        for harm in (
            f"-t nat -D {CHAIN} 2",
            f"-t nat -F {CHAIN}",
            f"-t nat -A {CHAIN} -j ACCEPT",
            f"-t nat -A POSTROUTING -j {CHAIN}",
            "-t nat -F POSTROUTING",
        ):
            shell(f"iptables-{kind} {harm}")
            assert len(await tables.settle(RULES)) == 1, harm
            assert await tables.settle(RULES) == [], harm
        assert len(await tables.settle(RULES, fully_random=False)) == 2
        assert len(await tables.settle(None)) == 2
        assert await tables.settle(None) == []

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_rules_of_others_are_the_same_afterwards_to_the_letter(shell: Shell, kind: Kind) -> None:
    shell(
        f"iptables-{kind} -t nat -A POSTROUTING -s 172.17.0.0/16 -m comment --comment 'a \"quoted\" one' -j MASQUERADE"
    )
    shell(f"iptables-{kind} -t nat -N OTHER; iptables-{kind} -t nat -A POSTROUTING -j OTHER")
    listing = f"iptables-{kind}-save -t nat | grep -v '^#'"
    before = shell(listing)

    async def run() -> None:
        tables = of_kind(kind)
        await tables.settle(RULES)
        assert before != shell(listing)
        await tables.settle(None)

    asyncio.run(run())
    assert shell(listing) == before


def test_looking_at_the_old_kind_makes_no_table(shell: Shell) -> None:
    async def run() -> None:
        assert await of_kind("legacy").settle(None) == []
        assert await of_kind("legacy").accept((), ()) == ([], {})

    asyncio.run(run())
    assert shell("cat /proc/thread-self/net/ip_tables_names").split() == []


def test_the_kind_that_iptables_means_comes_first(own_network: None, shell: Shell) -> None:
    found = asyncio.run(kinds())
    assert {one.kind for one in found} == {"nft", "legacy"}
    plain = "nft" if "nf_tables" in shell("iptables --version") else "legacy"
    assert found[0].kind == plain


def test_what_a_program_refuses_is_said_in_one_line(own_network: None) -> None:
    async def run() -> None:
        with pytest.raises(IptablesError, match="iptables-nft-restore") as raised:
            await of_kind("nft").restore(4, "nat", ["-A NOWHERE -j ACCEPT"])
        assert "\n" not in str(raised.value)
        with pytest.raises(IptablesError, match="cannot be run"):
            await Iptables("nft", "iptables-none").saved(4, "nat")

    asyncio.run(run())
