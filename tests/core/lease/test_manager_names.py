"""Lease manager: one live node of a name, and what becomes of a name whose node has died."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tulle.lease.errors import DuplicateNode

# The fixture `cluster` is in conftest.py: a memory world, a virtual clock, nodes.

DAY_S = 86_400


async def _subnets(cluster: Any) -> list[str]:
    return [key.partition("/")[2] for key in await cluster.keys() if key.startswith("subnets/")]


def test_the_same_name_with_another_id_is_refused_while_the_first_is_alive(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            first = await cluster.start("n1")
            await first.acquire("192.0.2.1")
            clone = await cluster.start("n1", node_id="another")
            start = cluster.clock.now()
            with pytest.raises(DuplicateNode) as caught:
                await clone.acquire("192.0.2.9")
            assert cluster.clock.now() - start < 25  # two renewals
            assert "'n1'" in str(caught.value)
            assert "--node-name" in str(caught.value)
            assert not first.run.done()
            assert len(await _subnets(cluster)) == 1

    asyncio.run(scenario())


def test_a_cloned_machine_with_the_same_id_is_noticed_by_its_boot_id(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            await (await cluster.start("n1")).acquire("192.0.2.1")
            clone = await cluster.start("n1", boot_id="another boot")
            with pytest.raises(DuplicateNode):
                await clone.acquire("192.0.2.9")

    asyncio.run(scenario())


def test_the_name_of_a_dead_node_is_taken_over_after_its_time_with_its_subnet(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            first = await cluster.start("n1")
            prefixes = await first.acquire("192.0.2.1")
            await first.kill()
            replacement = await cluster.start("n1", node_id="new disk")
            start = cluster.clock.now()
            assert await replacement.acquire("192.0.2.9") == prefixes
            assert 20 <= cluster.clock.now() - start <= 32
            assert b"new disk" in (await cluster.keys())["members/n1"].value

    asyncio.run(scenario())


def test_a_node_that_was_replaced_while_it_was_away_stops_and_leaves_the_new_one_alone(
    cluster: Any,
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            first = await cluster.start("n1")
            await first.acquire("192.0.2.1")
            first.store._closed = True  # its cable is pulled
            await cluster.clock.advance(60)
            replacement = await cluster.start("n1", node_id="new disk")
            await replacement.acquire("192.0.2.9")
            before = await cluster.keys()
            first.store._closed = False
            await cluster.clock.advance(60)
            assert first.run.done()
            with pytest.raises(DuplicateNode):
                await first.run
            assert await cluster.keys() == before
            assert not replacement.run.done()

    asyncio.run(scenario())


def test_a_graceful_end_gives_the_name_back_and_keeps_the_subnet(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            prefixes = await node.acquire("192.0.2.1")
            await node.manager.close()
            assert "alive/n1" not in await cluster.keys()
            await node.kill()
            other = await cluster.start("n1", node_id="reinstalled")
            start = cluster.clock.now()
            assert await other.acquire("192.0.2.1") == prefixes
            assert cluster.clock.now() - start < 1

    asyncio.run(scenario())
