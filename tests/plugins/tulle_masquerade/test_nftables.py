"""Our table, and our accept rules in chains of others, by nftables itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_network

import pytest

from tulle.kernel.nft import Nft
from tulle_masquerade.accepts import accepts, needed
from tulle_masquerade.nftables import NftTables
from tulle_masquerade.rules import nat_rules, nft_table

NETWORKS = (ip_network("10.42.0.0/16"), ip_network("fd42::/48"))
SUBNETS = (ip_network("10.42.1.0/24"), ip_network("fd42:0:0:1::/64"))
TABLE = nft_table(nat_rules(NETWORKS, SUBNETS), fully_random=True)
WANTED, PACKETS = accepts(NETWORKS), needed(NETWORKS, SUBNETS)

FIREWALLD = """
table inet firewalld {
  chain filter_FORWARD {
    type filter hook forward priority 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state { invalid } drop
    jump filter_FORWARD_POLICIES
    reject with icmpx type admin-prohibited
  }
  chain filter_FORWARD_POLICIES {
    iifname "eth0" oifname "eth0" accept
  }
}
"""

Shell = Callable[[str], str]


def with_tables(use: Callable[[NftTables], Awaitable[None]]) -> None:
    async def run() -> None:
        nft = Nft()
        try:
            await use(NftTables(nft))
        finally:
            nft.close()

    asyncio.run(run())


def test_our_table_is_set_once_and_mended_when_changed(shell: Shell) -> None:
    async def use(tables: NftTables) -> None:
        assert await tables.settle(TABLE) == ["table inet tulle-masq: was not there, set"]
        assert await tables.settle(TABLE) == []
        shell("nft flush chain inet tulle-masq postrouting")
        assert await tables.settle(TABLE) == [
            "table inet tulle-masq: rules of chain postrouting differed, set"
        ]
        assert await tables.settle(None) == ["table inet tulle-masq: removed"]
        assert await tables.settle(None) == []

    with_tables(use)
    assert shell("nft list ruleset") == ""


@pytest.mark.parametrize(
    ("foreign", "chain"),
    [
        ("table inet fw { chain f { type filter hook forward priority 0; policy drop; }; }", "inet fw f"),
        (FIREWALLD, "inet firewalld filter_FORWARD"),
    ],
    ids=["policy", "firewalld"],
)
def test_chains_of_others_that_drop_get_rules_and_are_whole_again_afterwards(
    shell: Shell, foreign: str, chain: str
) -> None:
    shell(f"nft -f - <<'END'\n{foreign}\nEND")
    before = shell("nft list ruleset")

    async def use(tables: NftTables) -> None:
        lines, refused = await tables.accept(WANTED, PACKETS)
        assert (len(lines), refused) == (1, {})
        assert chain in lines[0]
        assert await tables.accept(WANTED, PACKETS) == ([], {})
        listed = shell(f"nft list chain {chain}")
        assert listed.count("tulle-masq:") == len(WANTED)
        assert listed.index("tulle-masq:") < listed.index("established") if "established" in listed else True
        assert len((await tables.accept((), ()))[0]) == 1

    with_tables(use)
    assert shell("nft list ruleset") == before


def test_iptables_goes_on_to_understand_a_chain_with_our_rules(shell: Shell) -> None:
    shell("iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER")
    shell("iptables-nft -A DOCKER-USER -j RETURN")
    before = shell("iptables-nft-save | grep -v '^#'")

    async def use(tables: NftTables) -> None:
        await tables.accept(WANTED, PACKETS)
        saved = shell("iptables-nft-save")
        assert [line.split(" -m ")[0] for line in saved.splitlines() if "tulle-masq" in line] == [
            "-A DOCKER-USER -s 10.42.0.0/16",
            "-A DOCKER-USER -d 10.42.0.0/16",
        ]
        shell(
            "iptables-nft -A FORWARD -s 192.0.2.9 -j ACCEPT; iptables-nft -D FORWARD -s 192.0.2.9 -j ACCEPT"
        )
        assert await tables.accept(WANTED, PACKETS) == ([], {})
        await tables.accept((), ())

    with_tables(use)
    assert shell("iptables-nft-save | grep -v '^#'") == before


def test_chains_that_others_jump_to_in_a_ring_or_into_nothing_end_the_look(shell: Shell) -> None:
    shell("nft add table inet r; for c in a b; do nft add chain inet r $c; done")
    shell("nft 'add chain inet r f { type filter hook forward priority 0; policy drop; }'")
    shell("nft add rule inet r f jump a; nft add rule inet r a jump b; nft add rule inet r b drop")

    async def use(tables: NftTables) -> None:
        lines, _ = await tables.accept(WANTED, PACKETS)
        assert len(lines) == 1

    with_tables(use)
