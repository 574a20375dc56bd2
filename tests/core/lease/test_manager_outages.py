"""Lease manager: the others as peers, outages, and what comes back after them."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

import pytest

from tulle.contracts.store import Delete
from tulle.lease.errors import SubnetLost

# The fixture `cluster` is in conftest.py: a memory world, a virtual clock, nodes.

DAY_S = 86_400


async def _subnets(cluster: Any) -> list[str]:
    return [key.partition("/")[2] for key in await cluster.keys() if key.startswith("subnets/")]


def test_leases_outside_the_network_over_our_own_or_without_sense_become_no_peers(
    cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure(Network="10.5.0.0/16")
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1", previous=(IPv4Network("10.5.8.0/24"),))
            value = b'{"PublicIP":"192.0.2.66","PublicIPv6":null}'
            for key in ("0.0.0.0-0", "10.6.0.0-24", "10.5.8.0-25", "10.5.0.0-16", "fd00::-64", "junk"):
                await cluster.put(f"subnets/{key}", value)
            await cluster.put("subnets/10.5.10.0-24", b"junk")
            await cluster.put("subnets/10.5.9.0-24", value)
            await cluster.clock.settle()
            assert set(await node.peers()) == {"10.5.9.0-24"}

    asyncio.run(scenario())
    assert any(message.startswith("lease-refused") for message in caplog.messages)


def test_changes_that_come_together_are_told_together(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1", previous=(IPv4Network("10.5.1.0/24"),))
            peers = node.manager.peers()
            assert await cluster.clock.run(anext(peers)) == ()
            following = asyncio.ensure_future(anext(peers))
            for number in range(10, 20):
                await cluster.put(f"subnets/10.5.{number}.0-24", b'{"PublicIP":"192.0.2.9"}')
                await cluster.clock.advance(0.001)
            await cluster.clock.advance(0.05)
            assert following.done()
            assert len(await following) == 10
            await peers.aclose()

    asyncio.run(scenario())


def test_further_addresses_come_behind_the_public_ones(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            one, two = await cluster.start("n1"), await cluster.start("n2")
            await one.acquire("192.0.2.1")
            claim = two.claim("192.0.2.2")
            from msgspec.structs import replace

            claim = replace(claim, candidates=(IPv4Address("172.16.0.2"), IPv4Address("192.0.2.2")))
            await cluster.clock.run(two.manager.acquire(claim))
            peer = (await one.peers())["n2"]
            assert peer.endpoints == (IPv4Address("192.0.2.2"), IPv4Address("172.16.0.2"))

    asyncio.run(scenario())


def test_acquire_waits_through_an_outage_and_lost_answers(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            cluster.world.available = False
            node = await cluster.start("n1")
            acquiring = node.begin("192.0.2.1")
            await cluster.clock.advance(3600)
            cluster.world.available = True
            cluster.world.lose_answers = 4
            await cluster.clock.advance(30)
            assert acquiring.done()
            assert len(await _subnets(cluster)) == 1

    asyncio.run(scenario())


def test_a_subnet_that_went_to_another_node_while_we_were_away_ends_run_and_is_left_alone(
    cluster: Any,
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            one = await cluster.start("n1")
            (prefix,) = await one.acquire("192.0.2.1")
            one.store._closed = True
            await cluster.clock.suspend(DAY_S + 60)
            two = await cluster.start("n2")
            assert await two.acquire("192.0.2.2", previous=(prefix,)) == (prefix,)
            one.store._closed = False
            await cluster.clock.advance(10)
            with pytest.raises(SubnetLost) as caught:
                await one.run
            assert str(prefix) in str(caught.value)
            assert "start tulled again" in str(caught.value)
            keys = await cluster.keys()
            assert b"192.0.2.2" in keys[f"subnets/{prefix.network_address}-24"].value
            again = await cluster.start("n1")
            assert await again.acquire("192.0.2.1", previous=(prefix,)) != (prefix,)

    asyncio.run(scenario())


def test_a_lease_that_expired_while_we_were_away_and_is_free_is_put_again(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            one = await cluster.start("n1")
            (prefix,) = await one.acquire("192.0.2.1")
            one.store._closed = True
            await cluster.clock.suspend(3 * DAY_S)
            assert await _subnets(cluster) == []
            one.store._closed = False
            await cluster.clock.advance(10)
            assert await _subnets(cluster) == [f"{prefix.network_address}-24"]
            assert not one.run.done()
            assert "alive/n1" in await cluster.keys()

    asyncio.run(scenario())


def test_a_machine_that_sleeps_for_three_days_has_its_subnet_back_when_it_wakes(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            one = await cluster.start("n1")
            await one.acquire("192.0.2.1")
            before = await cluster.keys()
            await cluster.clock.suspend(3 * DAY_S)
            await cluster.clock.advance(10)
            after = await cluster.keys()
            assert after.keys() == before.keys()
            assert all(after[key].lease != kv.lease for key, kv in before.items() if key != "config")
            assert not one.run.done()

    asyncio.run(scenario())


def test_a_key_of_ours_that_is_deleted_by_hand_is_back_at_once(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            one = await cluster.start("n1")
            await one.acquire("192.0.2.1")
            before = await cluster.keys()
            for key in (key for key in before if key.startswith(("subnets/", "members/"))):
                await cluster.other.transact([], [Delete(f"/coreos.com/network/{key}")])
                await cluster.clock.settle()
                assert (await cluster.keys()).keys() == before.keys()
            assert not one.run.done()

    asyncio.run(scenario())


def test_two_pairs_that_overlap_in_one_half_never_both_stay(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure(Network="10.5.0.0/16", EnableIPv6=True, IPv6Network="fd00:5::/48")
            one, two = await cluster.start("n1"), await cluster.start("n2")
            shared = IPv4Network("10.5.7.0/24")
            wishes = [(shared, IPv6Network(f"fd00:5:0:{number}::/64")) for number in (7, 8)]
            both = [
                node.begin(f"192.0.2.{number}", f"2001:db8::{number}", previous=wishes[number - 1])
                for number, node in ((1, one), (2, two))
            ]
            await cluster.clock.advance(30)
            first, second = [await acquired for acquired in both]
            assert not set(first) & set(second)
            assert wishes[0] in (first, second) or wishes[1] in (first, second)
            assert len(await _subnets(cluster)) == 2

    asyncio.run(scenario())
