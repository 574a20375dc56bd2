"""Leases as commands see them, without a tulled."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tulle.lease.offline import read_leases, release_node

# The fixture `cluster` is in conftest.py: a memory world, a virtual clock, nodes.

PREFIX = "/coreos.com/network"
DAY_S = 86_400


def test_each_lease_has_a_line_that_says_whose_it_is_and_how_long(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            (prefix,) = await node.acquire("192.0.2.1", kind="vxlan", VNI=1)
            await cluster.put("subnets/10.5.200.0-24", b'{"PublicIP":"192.0.2.7"}', DAY_S)
            await cluster.put("subnets/10.5.201.0-24", b"junk")
            await node.kill()
            await cluster.clock.advance(20)
            lines = {line.key: line for line in await read_leases(cluster.other, PREFIX)}
            ours, flannels, junk = (
                lines[key] for key in (f"{prefix.network_address}-24", "10.5.200.0-24", "10.5.201.0-24")
            )
            assert (ours.node, ours.subnets, ours.public) == ("n1", [str(prefix)], ["192.0.2.1"])
            assert (ours.backend, ours.reserved, ours.alive, ours.came) == ("vxlan", False, True, True)
            assert ours.expires_s == pytest.approx(DAY_S - 20, abs=2)
            assert (flannels.node, flannels.alive, flannels.reserved) == ("", None, False)
            assert (junk.reserved, junk.expires_s, junk.public) == (True, None, [])
            assert "not JSON" in junk.problem
            await cluster.clock.advance(20)
            again = {line.key: line for line in await read_leases(cluster.other, PREFIX)}
            assert again[ours.key].alive is False

    asyncio.run(scenario())


def test_a_reserved_subnet_of_a_node_that_never_came_says_so(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.put("subnets/10.5.9.0-24", b'{"PublicIP":"0.0.0.0"}')
            record = {"ID": "", "BootID": "", "Subnets": ["10.5.9.0-24"], "Reserved": True}
            await cluster.put("members/n1", json.dumps(record).encode())
            await cluster.write_together("subnets/10.5.9.0-24", "members/n1")
            (line,) = await read_leases(cluster.other, PREFIX)
            assert (line.node, line.came, line.alive, line.public) == ("n1", False, False, [])

    asyncio.run(scenario())


def test_release_of_a_node_that_ended_takes_its_three_keys_and_nobody_elses(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            for number in (1, 2):
                await (await cluster.start(f"n{number}")).acquire(f"192.0.2.{number}")
            await cluster.nodes[0].kill()
            assert await release_node(cluster.other, PREFIX, "n1", "id-of-n1") is True
            left = {key.partition("/")[0] + key.rpartition("/")[2][:2] for key in await cluster.keys()}
            assert {"membersn2", "aliven2"} <= left
            assert not {"membersn1", "aliven1"} & left
            assert len([key for key in await cluster.keys() if key.startswith("subnets/")]) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(("name", "node_id"), [("n2", "id-of-n2"), ("n1", "another disk")])
def test_a_node_that_is_unknown_or_another_machine_is_not_released(
    cluster: Any, name: str, node_id: str
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            await (await cluster.start("n1")).acquire("192.0.2.1")
            before = await cluster.keys()
            assert await release_node(cluster.other, PREFIX, name, node_id) is False
            assert await cluster.keys() == before

    asyncio.run(scenario())


def test_a_record_that_makes_no_sense_is_nobodys_to_release(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.put("members/n1", b"junk")
            assert await release_node(cluster.other, PREFIX, "n1", "") is False
            assert "members/n1" in await cluster.keys()

    asyncio.run(scenario())


def test_a_reservation_stays_when_its_node_is_released_and_so_does_its_record(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            await cluster.put("subnets/10.5.9.0-24", b'{"PublicIP":"0.0.0.0"}')
            record = {"ID": "", "BootID": "", "Subnets": ["10.5.9.0-24"], "Reserved": True}
            await cluster.put("members/n1", json.dumps(record).encode())
            await cluster.write_together("subnets/10.5.9.0-24", "members/n1")
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1")
            await node.kill()
            assert await release_node(cluster.other, PREFIX, "n1", "id-of-n1") is True
            assert set(await cluster.keys()) == {"config", "subnets/10.5.9.0-24", "members/n1"}

    asyncio.run(scenario())
