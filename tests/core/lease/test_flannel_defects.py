"""Each defect that flannel has in its leases and tulle must not have, by its number in the list that we keep."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest

from tulle.contracts.store import NO_LEASE, LeaseId, Put
from tulle.lease.errors import SubnetLost
from tulle_memory.store import MemoryStore

# The fixture `cluster` is in conftest.py: a memory world, a virtual clock, nodes.

DAY_S = 86_400
NETWORK = "/coreos.com/network"


def test_defect_1_a_lost_allocation_race_is_tried_again(
    cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            wish = IPv4Network("10.5.7.0/24")
            nodes = [await cluster.start(f"n{number}") for number in range(1, 6)]
            # All see the same free subnet and reach for it at once.
            racing = [node.begin(f"192.0.2.{n}", previous=(wish,)) for n, node in enumerate(nodes, start=1)]
            await cluster.clock.advance(10)
            got = [await acquired for acquired in racing]
            assert len(set(got)) == 5
            assert (wish,) in got

    with caplog.at_level("INFO"):
        asyncio.run(scenario())
    assert sum(message.startswith("lease-race") for message in caplog.messages) >= 4


@pytest.mark.parametrize("same_address", [False, True], ids=["another address", "the same bytes (NAT)"])
def test_defect_2_a_late_renewer_does_not_overwrite_the_new_owner(cluster: Any, same_address: bool) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            late = await cluster.start("late")
            (prefix,) = await late.acquire("192.0.2.1")
            late.store._closed = True
            await cluster.clock.suspend(DAY_S + 1)
            new = await cluster.start("new")
            address = "192.0.2.1" if same_address else "192.0.2.2"
            assert await new.acquire(address, previous=(prefix,)) == (prefix,)
            before = await cluster.keys()
            late.store._closed = False
            await cluster.clock.advance(5)
            with pytest.raises(SubnetLost):
                await late.run
            assert {k: v for k, v in (await cluster.keys()).items() if "alive" not in k} == {
                k: v for k, v in before.items() if "alive" not in k
            }
            await cluster.clock.advance(3600)
            assert not new.run.done()

    asyncio.run(scenario())


def test_defect_3_a_reservation_stays_one_when_its_node_starts_runs_and_ends(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            reserved = b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan"}'
            await cluster.put("subnets/10.5.52.0-24", reserved)
            node = await cluster.start("n1")
            assert await node.acquire("192.0.2.1") == (IPv4Network("10.5.52.0/24"),)
            kv = (await cluster.keys())["subnets/10.5.52.0-24"]
            assert kv.lease == NO_LEASE
            assert kv.value == b'{"PublicIP":"192.0.2.1","PublicIPv6":null}'
            await cluster.clock.run(node.manager.update(node.claim("192.0.2.1", kind="host-gw")))
            assert (await cluster.keys())["subnets/10.5.52.0-24"].lease == NO_LEASE
            await node.kill()
            await cluster.clock.suspend(10 * DAY_S)
            assert "subnets/10.5.52.0-24" in await cluster.keys()
            again = await cluster.start("n1", boot_id="another boot")
            assert await again.acquire("198.51.100.1") == (IPv4Network("10.5.52.0/24"),)
            assert (await cluster.keys())["subnets/10.5.52.0-24"].lease == NO_LEASE

    asyncio.run(scenario())


def test_defect_4_an_address_or_mac_that_changed_before_a_new_listing_is_told(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            value = b'{"PublicIP":"192.0.2.%d","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VtepMAC":"%s"}}'
            await cluster.put("subnets/10.5.9.0-24", value % (9, b"aa:aa:aa:aa:aa:01"))
            await cluster.put("subnets/10.5.10.0-24", value % (10, b"aa:aa:aa:aa:aa:02"))
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1")
            peers = node.manager.peers()
            assert len(await cluster.clock.run(anext(peers))) == 2
            node.store._closed = True
            cluster.world.ring()
            await cluster.clock.advance(1)
            await cluster.put("subnets/10.5.9.0-24", value % (99, b"aa:aa:aa:aa:aa:01"))
            await cluster.put("subnets/10.5.10.0-24", value % (10, b"bb:bb:bb:bb:bb:02"))
            cluster.world.compact(cluster.world.revision)
            node.store._closed = False
            told = {peer.key: peer for peer in await cluster.clock.run(anext(peers), within=10)}
            assert told["10.5.9.0-24"].endpoints == (IPv4Address("192.0.2.99"),)
            assert told["10.5.10.0-24"].data["VtepMAC"] == "bb:bb:bb:bb:bb:02"
            assert node.manager.status()["mirrors"]["subnets"]["relists"] == 1
            await peers.aclose()

    asyncio.run(scenario())


def test_defect_5_time_to_live_is_asked_for_no_key_and_no_event(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Collection[LeaseId]] = []
    remaining = MemoryStore.remaining

    async def counted(self: MemoryStore, leases: Collection[LeaseId]) -> Mapping[LeaseId, float]:
        asked.append(leases)
        return await remaining(self, leases)

    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            for number in range(10, 60):
                await cluster.put(f"subnets/10.5.{number}.0-24", b'{"PublicIP":"192.0.2.9"}', DAY_S)
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1", previous=(IPv4Network("10.5.200.0/24"),))
            for number in range(60, 110):
                await cluster.put(f"subnets/10.5.{number}.0-24", b'{"PublicIP":"192.0.2.9"}', DAY_S)
            await cluster.clock.advance(3600)
            assert len(await node.peers()) == 100

    monkeypatch.setattr(MemoryStore, "remaining", counted)
    asyncio.run(scenario())
    assert asked == []


def test_defect_6_an_ipv6_only_network_works(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure(EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00:5::/48")
            one, two = await cluster.start("n1"), await cluster.start("n2")
            (prefix,) = await one.acquire("2001:db8::1")
            await two.acquire("2001:db8::2")
            kv = (await cluster.keys())[f"subnets/{prefix.network_address}-64"]
            assert kv.value == b'{"PublicIP":null,"PublicIPv6":"2001:db8::1"}'
            peer = (await two.peers())["n1"]
            assert peer.prefixes == (prefix,)
            assert peer.endpoints == (IPv6Address("2001:db8::1"),)

    asyncio.run(scenario())


def test_defect_11_nodes_behind_one_nat_keep_their_own_leases_through_restarts(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            had = {}
            for name in ("n1", "n2", "n3"):
                had[name] = await (await cluster.start(name)).acquire("192.0.2.1")
            assert len(set(had.values())) == 3
            for name, node in zip(("n3", "n1", "n2"), cluster.nodes[::-1], strict=False):
                await next(n for n in cluster.nodes if n.name == name).kill()
                again = await cluster.start(name)
                assert await again.acquire("192.0.2.1") == had[name], node
                cluster.nodes = [n for n in cluster.nodes if n is again or n.name != name]

    asyncio.run(scenario())


def test_defect_11_a_neighbours_new_lease_is_not_taken_while_its_record_is_still_on_its_way(
    cluster: Any,
) -> None:
    """The mirror of the leases may be ahead of that of the member records."""

    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            one, two = await cluster.start("n1"), await cluster.start("n2")
            (first,) = await one.acquire("192.0.2.1")
            # What two sees when only the leases have arrived:
            two.manager._members.items.clear()
            (second,) = await two.acquire("192.0.2.1")
            assert first != second
            await cluster.clock.advance(1000)
            assert not one.run.done()

    asyncio.run(scenario())


def test_a_lease_of_flannel_on_this_machine_is_taken_over_with_its_subnet(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            value = b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"Zone":"a"}'
            theirs = await cluster.put("subnets/10.5.52.0-24", value, DAY_S)
            node = await cluster.start("n1")
            assert await node.acquire("192.0.2.1") == (IPv4Network("10.5.52.0/24"),)
            await cluster.other.revoke(theirs)  # flannel's own lease at the store ends: ours is another
            kv = (await cluster.keys())["subnets/10.5.52.0-24"]
            assert kv.lease not in (theirs, NO_LEASE)
            assert kv.value == value

    asyncio.run(scenario())


def test_a_flannel_that_renews_without_looking_takes_the_subnet_and_tulle_stops(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            (prefix,) = await node.acquire("192.0.2.1")
            key = f"{NETWORK}/subnets/{prefix.network_address}-24"
            lease = await cluster.other.grant(DAY_S)
            await cluster.other.transact(
                [], [Put(key, b'{"PublicIP":"192.0.2.66","PublicIPv6":null}', lease)]
            )
            await cluster.clock.settle()
            with pytest.raises(SubnetLost):
                await node.run

    asyncio.run(scenario())
