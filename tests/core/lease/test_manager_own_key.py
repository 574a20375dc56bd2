"""What others do to the key that we hold, and to what lies beside it."""

from __future__ import annotations

import asyncio
import json
from ipaddress import IPv4Network
from typing import Any

import pytest

from tulle.contracts.store import NO_LEASE, Put
from tulle.lease.errors import SubnetLost
from tulle.net.prefix import parse_subnet_key

# The fixture `cluster` is in conftest.py: a memory world, a virtual clock, nodes.

DAY_S = 86_400
PREFIX = "/coreos.com/network"
DUAL = {"Network": "10.5.0.0/24", "SubnetLen": 30, "EnableIPv6": True, "IPv6Network": "fd00:5::/56"}


@pytest.mark.parametrize(
    ("config", "wish", "other"),
    [
        (DUAL, "10.5.0.8-30&fd00:5:0:2::-64", "10.5.0.8-30&fd00:5:0:9::-64"),
        (DUAL, "10.5.0.8-30&fd00:5:0:2::-64", "10.5.0.12-30&fd00:5:0:2::-64"),
        ({"Network": "10.5.0.0/16"}, "10.5.9.0-24", "10.5.8.0-23"),
        (
            {"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fd00:5::/48"},
            "fd00:5:0:9::-64",
            "fd00:5:0:8::-63",
        ),
    ],
    ids=["the same IPv4 half", "the same IPv6 half", "another length", "another length, IPv6"],
)
def test_a_lease_that_ran_out_is_not_put_again_over_a_part_that_another_key_got_meanwhile(
    cluster: Any, config: dict[str, Any], wish: str, other: str
) -> None:
    """The keys differ, so nothing but a look at all leases can tell."""

    async def scenario() -> None:
        async with cluster:
            await cluster.configure(**config)
            node = await cluster.start("n1")
            had = parse_subnet_key(wish)
            assert await node.acquire("192.0.2.1", "2001:db8::1", previous=had) == had
            node.store.available = False
            await cluster.clock.suspend(DAY_S + 10)
            await cluster.put(f"subnets/{other}", b'{"PublicIP":"192.0.2.77","PublicIPv6":null}', DAY_S)
            node.store.available = True
            await cluster.clock.advance(30)
            assert node.run.done()
            with pytest.raises(SubnetLost, match=f"now belongs to {PREFIX}/subnets/{other}"):
                await node.run
            left = await cluster.keys()
            assert f"subnets/{other}" in left
            assert f"subnets/{wish}" not in left
            assert "members/n1" not in left

    asyncio.run(scenario())


def test_who_is_older_stays_where_another_puts_a_key_over_a_part_of_its_subnet(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1", previous=(IPv4Network("10.5.9.0/24"),))
            await cluster.put("subnets/10.5.8.0-23", b'{"PublicIP":"192.0.2.77","PublicIPv6":null}', DAY_S)
            await cluster.clock.advance(1000)
            assert not node.run.done()
            assert "subnets/10.5.9.0-24" in await cluster.keys()

    asyncio.run(scenario())


def test_a_reservation_made_of_a_running_nodes_lease_stays_that_nodes_behind_a_nat(cluster: Any) -> None:
    """Somebody takes the TTL off the key, as flannel's users do. Then the node is away for longer than a lease, and
    its neighbour has the same address."""

    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            (had,) = await node.acquire("192.0.2.1")
            key = f"{PREFIX}/subnets/{had.network_address}-24"
            kv = cluster.world.get(key)
            await cluster.other.transact([], [Put(key, kv.value, NO_LEASE)])
            await cluster.clock.advance(30)
            keys = await cluster.keys()
            assert [keys[name].lease for name in keys if not name.startswith("alive/")] == [NO_LEASE] * 3
            assert node.manager.status()["lease"]["reserved"] is True
            node.store.available = False
            await cluster.clock.suspend(DAY_S + 10)
            neighbour = await cluster.start("n2")
            assert await neighbour.acquire("192.0.2.1") != (had,)
            node.store.available = True
            await cluster.clock.advance(1000)
            assert not node.run.done()
            assert not neighbour.run.done()

    asyncio.run(scenario())


def test_a_reservation_with_our_bytes_that_is_not_ours_takes_the_subnet_away(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            (had,) = await node.acquire("192.0.2.1")
            name = f"subnets/{had.network_address}-24"
            node.store.available = False
            await cluster.clock.suspend(DAY_S + 10)
            await cluster.put(name, b'{"PublicIP":"192.0.2.1","PublicIPv6":null}')
            before = (await cluster.keys())[name]
            node.store.available = True
            await cluster.clock.advance(30)
            assert node.run.done()
            with pytest.raises(SubnetLost):
                await node.run
            keys = await cluster.keys()
            assert keys[name] == before
            assert "members/n1" not in keys

    asyncio.run(scenario())


def test_two_that_find_flannels_lease_of_one_address_at_once_do_not_both_take_it(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            await cluster.put("subnets/10.5.52.0-24", b'{"PublicIP":"192.0.2.1","PublicIPv6":null}', DAY_S)
            nodes = [await cluster.start(f"n{number}") for number in range(1, 6)]
            racing = [node.begin("192.0.2.1") for node in nodes]
            await cluster.clock.advance(20)
            got = [task.result() for task in racing]
            assert len(set(got)) == 5
            assert got.count((IPv4Network("10.5.52.0/24"),)) == 1
            owners = [
                json.loads(kv.value)["Subnets"]
                for key, kv in (await cluster.keys()).items()
                if key.startswith("members/")
            ]
            assert owners.count(["10.5.52.0-24"]) == 1

    asyncio.run(scenario())
