"""One listing of the store: who has what."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_network
from typing import Any

import pytest

from tulle.config.errors import ConfigError
from tulle.contracts.store import NO_LEASE, Compare
from tulle.lease.registered import Registered, read

# The fixture `cluster` is in conftest.py: a memory world, a virtual clock, nodes.

PREFIX = "/coreos.com/network"
DAY_S = 86_400


async def registered(cluster: Any) -> Registered:
    return await read(cluster.other, PREFIX)


def test_leases_records_and_names_are_told_apart_and_tied_together(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            await cluster.put("subnets/10.5.200.0-24", b'{"PublicIP":"192.0.2.7"}', DAY_S)
            node = await cluster.start("n1")
            (prefix,) = await node.acquire("192.0.2.1")
            key = f"{prefix.network_address}-24"
            known = await registered(cluster)
            assert sorted(known.leases) == sorted([key, "10.5.200.0-24"])
            assert known.of_node("n1") == [key]
            assert known.of_node("n2") == []
            owner = known.owner(key)
            assert owner is not None
            assert owner.value is not None
            assert owner.value.name == "n1"
            assert known.owner("10.5.200.0-24") is None
            assert set(known.alive) == {"n1"}
            network = known.network()
            assert network is not None
            assert [str(one) for one in network.networks] == ["10.5.0.0/16"]

    asyncio.run(scenario())


def test_what_makes_no_sense_is_kept_with_the_reason(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.put("subnets/10.5.9.0-24", b"junk")
            await cluster.put("subnets/nonsense", b"{}")
            await cluster.put("members/n1", b"junk")
            await cluster.put("config", b"junk")
            known = await registered(cluster)
            assert known.leases["10.5.9.0-24"].value is None
            assert "not JSON" in known.unreadable["10.5.9.0-24"]
            assert "is no subnet" in known.unreadable["nonsense"]
            assert known.members["n1"].value is None
            assert known.of_node("n1") == []
            with pytest.raises(ConfigError):
                known.network()

    asyncio.run(scenario())


def test_an_empty_store_has_no_network_and_no_leases(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            known = await registered(cluster)
            assert (known.network(), known.leases, known.members, known.alive) == (None, {}, {}, {})

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["10.5.8.0/23"], ["10.5.9.0-24&fd00:0:0:9::-64"]),
        (["fd00::/60"], ["10.5.9.0-24&fd00:0:0:9::-64", "fd00:0:0:a::-64"]),
        (["10.5.10.0/24", "fd00:0:0:a::/64"], ["fd00:0:0:a::-64"]),
        (["10.5.10.0/24"], []),
    ],
)
def test_leases_that_share_addresses_are_found_by_either_half(
    cluster: Any, asked: list[str], found: list[str]
) -> None:
    async def scenario() -> None:
        async with cluster:
            for key in ("10.5.9.0-24&fd00:0:0:9::-64", "fd00:0:0:a::-64"):
                await cluster.put(f"subnets/{key}", b"{}")
            known = await registered(cluster)
            prefixes = tuple(map(ip_network, asked))
            assert list(known.overlapping(prefixes, but="")) == found
            assert list(known.overlapping(prefixes, but=found[0] if found else "")) == found[1:]

    asyncio.run(scenario())


@pytest.mark.parametrize("key", ["subnets/10.5.9.0-24", "members/n1", "alive/n1"])
def test_the_condition_that_a_key_is_as_it_was_read_holds_until_somebody_touches_it(
    cluster: Any, key: str
) -> None:
    async def scenario() -> None:
        async with cluster:

            async def holds(condition: Compare) -> bool:
                return (await cluster.other.transact([condition], [])).succeeded  # type: ignore[no-any-return]

            absent = (await registered(cluster)).still(f"{PREFIX}/{key}")
            assert await holds(absent)
            await cluster.put(key, json.dumps({"ID": "a", "BootID": "b"}).encode())
            assert not await holds(absent)
            there = (await registered(cluster)).still(f"{PREFIX}/{key}")
            assert await holds(there)
            await cluster.put(key, b"{}", DAY_S)
            assert not await holds(there)

    asyncio.run(scenario())


def test_a_reservation_that_was_made_by_hand_is_the_nodes_that_has_its_address(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            (prefix,) = await node.acquire("192.0.2.1")
            name = f"subnets/{prefix.network_address}-24"
            await cluster.put(name, (await cluster.keys())[name].value)
            known = await registered(cluster)
            assert known.leases[f"{prefix.network_address}-24"].kv.lease == NO_LEASE
            assert known.of_node("n1") == [f"{prefix.network_address}-24"]

    asyncio.run(scenario())
