"""Nodes that reach for subnets and names at the same moment, each with a client of its own, on a real etcd.

`make soak` does the first of these a hundred times; the accidents that need hours are in tests/core/lease, on a
virtual clock.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address, ip_network
from itertools import combinations
from types import NoneType
from typing import Any

import pytest

from tulle.contracts.backend import Address, Advertisement, Family
from tulle.contracts.store import NO_LEASE, Put, Store
from tulle.contracts.subnet import Claim
from tulle.lease.errors import DuplicateNode, SubnetLost
from tulle.lease.manager import LeaseManager
from tulle.net.prefix import Prefix, subnet_key
from tulle.store.clock import SystemClock
from tulle.testing.etcd import EtcdServer
from tulle.testing.relay import Relay
from tulle_etcd.store import open_store

pytestmark = pytest.mark.etcd

NODES = 50
IN_TIME_S = 60.0
"""For anything that happens here, on a machine under load."""
DAY_S = 86_400

V4 = {"Network": "10.5.0.0/16"}
DUAL = V4 | {"EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
V6 = {"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
CONFIGS = {"v4": V4, "dual": DUAL, "v6": V6}
FAMILIES = pytest.mark.parametrize("config", [V4, DUAL, V6], ids=["v4", "dual", "v6"])

# Three subnets to give in each family: 10.5.0.4/30, .8 and .12; fd00:5:0:4::/62, 8 and c.
SMALL_V4 = {"Network": "10.5.0.0/28", "SubnetLen": 30}
SMALL_V6 = {"EnableIPv6": True, "IPv6Network": "fd00:5::/60", "IPv6SubnetLen": 62}
SMALL = {"v4": SMALL_V4, "dual": SMALL_V4 | SMALL_V6, "v6": {"EnableIPv4": False} | SMALL_V6}
SMALL_KEYS = {
    "v4": ["10.5.0.4-30", "10.5.0.8-30", "10.5.0.12-30"],
    "dual": ["10.5.0.4-30&fd00:5:0:4::-62", "10.5.0.8-30&fd00:5:0:8::-62", "10.5.0.12-30&fd00:5:0:c::-62"],
    "v6": ["fd00:5:0:4::-62", "fd00:5:0:8::-62", "fd00:5:0:c::-62"],
}


@pytest.fixture(scope="module")
def etcd(etcd_here: None) -> Iterator[EtcdServer]:
    """One for all of these tests: each has a prefix of its own."""
    with EtcdServer(options=("--heartbeat-interval=50", "--election-timeout=500")) as server:
        yield server


class Node:
    """A lease manager that runs, with a connection of its own."""

    def __init__(self, store: Store, prefix: str, name: str, node_id: str, **times: int) -> None:
        self.name = name
        self.store = store
        self.manager = LeaseManager(
            store,
            prefix,
            node=name,
            node_id=node_id or f"id-of-{name}",
            boot_id="boot",
            clock=SystemClock(),
            rng=random.Random(),
            **times,
        )
        self.run = asyncio.ensure_future(self.manager.run())

    def acquire(self, *public: str, previous: tuple[Prefix, ...] = ()) -> asyncio.Task[tuple[Prefix, ...]]:
        return asyncio.ensure_future(self.manager.acquire(self.claim(*public, previous=previous)))

    def claim(self, *public: str, kind: str = "", previous: tuple[Prefix, ...] = ()) -> Claim:
        addresses: dict[Family, Address] = {}
        for text in public:
            address = ip_address(text)
            addresses[address.version] = address
        return Claim(self.name, addresses, Advertisement(kind), previous)

    async def end(self) -> None:
        """As kill -9: nothing is given back."""
        self.run.cancel()
        await asyncio.gather(self.run, return_exceptions=True)
        await self.store.close()


class Cluster:
    """Nodes and one who is none, under a prefix that no other test has."""

    def __init__(self, etcd: EtcdServer) -> None:
        self.etcd = etcd
        self.prefix = f"/race-{random.SystemRandom().getrandbits(64):x}"
        self.other = open_store({"etcd-endpoints": etcd.endpoints})
        self.nodes: list[Node] = []

    def node(self, name: str, node_id: str = "", *, port: int = 0, **times: int) -> Node:
        """`port`: of a relay to reach etcd by."""
        endpoints = [f"http://127.0.0.1:{port}"] if port else self.etcd.endpoints
        node = Node(open_store({"etcd-endpoints": endpoints}), self.prefix, name, node_id, **times)
        self.nodes.append(node)
        return node

    async def put(self, key: str, value: bytes, ttl_s: int | None = None) -> None:
        lease = await self.other.grant(ttl_s) if ttl_s else NO_LEASE
        await self.other.transact([], [Put(f"{self.prefix}/{key}", value, lease)])

    async def configure(self, config: Mapping[str, Any]) -> None:
        await self.put("config", json.dumps(config).encode())

    async def keys(self, under: str = "") -> dict[str, Any]:
        listing = await self.other.list(f"{self.prefix}/{under}")
        return {kv.key[len(self.prefix) + 1 + len(under) :]: kv for kv in listing.items}


@asynccontextmanager
async def cluster_on(etcd: EtcdServer, config: Mapping[str, Any]) -> AsyncIterator[Cluster]:
    cluster = Cluster(etcd)
    try:
        async with asyncio.timeout(IN_TIME_S):
            await cluster.configure(config)
            yield cluster
    finally:
        await asyncio.gather(*(node.end() for node in cluster.nodes))
        await cluster.other.close()


def addresses(number: int) -> tuple[str, str]:
    """Of node 1, 2, ..."""
    return f"192.0.2.{number}", f"2001:db8::{number:x}"


async def until(true: Any, what: str) -> None:
    """Wait for something that some task brings about; the cluster's time limit ends a wait in vain."""
    with suppress(TimeoutError):
        async with asyncio.timeout(IN_TIME_S / 2):
            while not true():
                await asyncio.sleep(0.02)
            return
    raise AssertionError(what)


async def fails(task: Awaitable[Any]) -> BaseException | None:
    """What it raised; None where it raised nothing."""
    return (await asyncio.gather(task, return_exceptions=True))[0]  # type: ignore[no-any-return]


async def all_start_at_once(etcd: EtcdServer, config: Mapping[str, Any]) -> float:
    """One round. Returns its seconds."""
    async with cluster_on(etcd, config) as cluster:
        began = asyncio.get_running_loop().time()
        # All would like the same subnet, which makes the worst of all races out of the first transaction.
        wish = (ip_network("10.5.7.0/24"), ip_network("fd00:5:0:7::/64"))
        nodes = [cluster.node(f"n{number}") for number in range(1, NODES + 1)]
        racing = [node.acquire(*addresses(n), previous=wish) for n, node in enumerate(nodes, start=1)]
        got = await asyncio.gather(*racing)
        took_s = asyncio.get_running_loop().time() - began
        families = len(got[0])
        assert len({prefix for prefixes in got for prefix in prefixes}) == NODES * families
        assert all(not a.overlaps(b) for a, b in combinations((each[0] for each in got), 2))
        leases, records = await cluster.keys("subnets/"), await cluster.keys("members/")
        assert len(leases) == len(records) == len(await cluster.keys("alive/")) == NODES
        for node, prefixes in zip(nodes, got, strict=True):
            (key,) = json.loads(records[node.name].value)["Subnets"]
            assert key == subnet_key(prefixes)
            assert (leases[key].modified, leases[key].lease) == (
                records[node.name].modified,
                records[node.name].lease,
            )
            assert leases[key].lease != NO_LEASE
        assert not any(node.run.done() for node in nodes)
    return took_s


@FAMILIES
def test_fifty_nodes_that_start_at_once_get_fifty_subnets(etcd: EtcdServer, config: dict[str, Any]) -> None:
    print(f"ready after {asyncio.run(all_start_at_once(etcd, config)):.1f} s")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@FAMILIES
def test_fifty_nodes_get_fifty_subnets_a_hundred_times_over(etcd: EtcdServer, config: dict[str, Any]) -> None:
    for _ in range(100):
        asyncio.run(all_start_at_once(etcd, config))


@pytest.mark.parametrize("family", SMALL)
def test_of_many_that_reach_for_the_last_free_subnet_one_gets_it_and_the_others_wait_in_turn(
    etcd: EtcdServer, family: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with cluster_on(etcd, SMALL[family]) as cluster:
            *taken, last = SMALL_KEYS[family]
            for key in taken:
                await cluster.put(f"subnets/{key}", b'{"PublicIP":"198.51.100.1","PublicIPv6":null}', DAY_S)
            nodes = [cluster.node(f"n{number}") for number in range(1, 9)]
            racing = {node.acquire(*addresses(n)): node for n, node in enumerate(nodes, start=1)}
            done, waiting = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            assert list(await cluster.keys("subnets/")) == sorted(SMALL_KEYS[family])
            await until(
                lambda: said(caplog, "network-full") == 7, "not all seven say that the network is full"
            )
            assert all(not task.done() for task in waiting)
            (winner,) = done
            await racing[winner].manager.release()
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result() for task in done] == [winner.result()]
            await cluster.other.transact([], [Put(f"{cluster.prefix}/subnets/{taken[0]}", b"x", NO_LEASE)])
            assert not [task for task in waiting if task.done()]
            owners = Counter(
                key
                for kv in (await cluster.keys("members/")).values()
                for key in json.loads(kv.value)["Subnets"]
            )
            assert owners == {last: 1}
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    with caplog.at_level("INFO"):
        asyncio.run(scenario())
    full = next(text for text in caplog.messages if text.startswith("network-full"))
    assert "all 3 subnets of" in full
    assert "remove leases of nodes that are gone, or give the network config a larger network" in full


def said(caplog: pytest.LogCaptureFixture, event: str) -> int:
    return sum(text.startswith(event) for text in caplog.messages)


@pytest.mark.parametrize("writes", [False, True], ids=["renews", "writes"])
def test_who_comes_back_after_its_lease_ran_out_leaves_the_new_owner_alone(
    etcd: EtcdServer, writes: bool
) -> None:
    """What it had sent before the line froze arrives after the other has the subnet."""

    async def scenario() -> None:
        async with cluster_on(etcd, SMALL["v4"]) as cluster, Relay(etcd.client_port) as relay:
            late = cluster.node("late", port=relay.port, ttl_s=2, renew_margin_s=1)
            had = await late.acquire("192.0.2.1")
            relay.freeze()
            update = (
                asyncio.sleep(0) if not writes else late.manager.update(late.claim("192.0.2.1", kind="x"))
            )
            updating = asyncio.ensure_future(update)
            await asyncio.sleep(0.3)
            while await cluster.keys("subnets/"):
                await asyncio.sleep(0.05)
            new = cluster.node("new")
            assert await new.acquire("192.0.2.2", previous=had) == had
            before = await cluster.keys("subnets/"), await cluster.keys("members/")
            relay.thaw()
            ended = await fails(late.run)
            assert isinstance(ended, SubnetLost)
            assert "now belongs to another node" in str(ended)
            assert isinstance(await fails(updating), SubnetLost if writes else NoneType)
            assert (await cluster.keys("subnets/"), await cluster.keys("members/")) == before
            assert not new.run.done()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("v4", "10.5.52.0-24"),
        ("dual", "10.5.52.0-24&fd00:5:0:52::-64"),
        ("v6", "fd00:5:0:52::-64"),
    ],
)
@pytest.mark.parametrize("ttl_s", [DAY_S, None], ids=["lease", "reservation"])
def test_of_nodes_behind_one_nat_that_find_flannels_lease_at_once_one_takes_it(
    etcd: EtcdServer, family: str, key: str, ttl_s: int | None
) -> None:
    async def scenario() -> None:
        async with cluster_on(etcd, CONFIGS[family]) as cluster:
            value = b'{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan"}'
            await cluster.put(f"subnets/{key}", value, ttl_s)
            nodes = [cluster.node(f"n{number}") for number in range(10)]
            got = await asyncio.gather(*(node.acquire(*addresses(1)) for node in nodes))
            names = [subnet_key(prefixes) for prefixes in got]
            assert len(set(names)) == 10
            assert names.count(key) == 1
            leases = await cluster.keys("subnets/")
            assert sorted(leases) == sorted(names)
            assert (leases[key].lease == NO_LEASE) == (ttl_s is None)
            await asyncio.sleep(0.2)
            assert not any(node.run.done() for node in nodes)

    asyncio.run(scenario())


@pytest.mark.parametrize("to_the_end", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_of_machines_with_one_name_that_start_at_once_one_runs_and_the_others_are_refused(
    etcd: EtcdServer, to_the_end: bool
) -> None:
    """They need 20 s to know that the one is alive, and take nothing meanwhile."""

    async def scenario() -> None:
        async with cluster_on(etcd, V4) as cluster:
            clones = [cluster.node("n1", f"disk-{number}") for number in range(6)]
            racing = {clone.acquire(*addresses(n)): clone for n, clone in enumerate(clones, start=1)}
            done, _ = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            (winner,) = done
            await asyncio.wait(racing, timeout=IN_TIME_S / 2 if to_the_end else 1)
            refused = [task for task in racing if task is not winner]
            if to_the_end:
                assert all(isinstance(await fails(task), DuplicateNode) for task in refused)
                assert "--node-name" in str(await fails(refused[0]))
            assert len(await cluster.keys("subnets/")) == len(await cluster.keys("alive/")) == 1
            for kind in ("members/", "alive/"):
                record = json.loads((await cluster.keys(kind))["n1"].value)
                assert record["ID"] == f"disk-{clones.index(racing[winner])}"
            assert not racing[winner].run.done()
            for task in refused:
                assert to_the_end or not task.done()
                task.cancel()
            await asyncio.gather(*refused, return_exceptions=True)

    asyncio.run(scenario())


@pytest.mark.parametrize("family", ["dual", "v6"])
def test_a_reservation_goes_to_its_node_among_many_that_want_a_subnet_and_stays_without_a_ttl(
    etcd: EtcdServer, family: str
) -> None:
    async def scenario() -> None:
        async with cluster_on(etcd, SMALL[family]) as cluster:
            key = SMALL_KEYS[family][1]
            reserved = b'{"PublicIP":"192.0.2.2","PublicIPv6":"2001:db8::2"}'
            await cluster.put(f"subnets/{key}", reserved)
            nodes = [cluster.node(f"n{number}", ttl_s=2, renew_margin_s=1) for number in (1, 2, 3)]
            got = await asyncio.gather(*(node.acquire(*addresses(n)) for n, node in enumerate(nodes, 1)))
            assert len(set(got)) == 3
            assert subnet_key(got[1]) == key
            await nodes[1].manager.update(nodes[1].claim(*addresses(2), kind="vxlan"))
            await nodes[1].end()
            await asyncio.sleep(3.5)  # longer than a lease of these nodes
            left = await cluster.keys("subnets/")
            assert sorted(left) == sorted(SMALL_KEYS[family])
            assert left[key].lease == NO_LEASE
            assert all(left[other].lease != NO_LEASE for other in SMALL_KEYS[family] if other != key)
            again = cluster.node("n2")
            assert await again.acquire(*addresses(2)) == got[1]
            await again.manager.release()
            assert (await cluster.keys("subnets/"))[key].lease == NO_LEASE

    asyncio.run(scenario())


@FAMILIES
def test_a_config_that_changes_under_running_nodes_is_said_and_changes_nothing(
    etcd: EtcdServer, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with cluster_on(etcd, config) as cluster:
            nodes = [cluster.node(f"n{number}") for number in (1, 2, 3)]
            await asyncio.gather(*(node.acquire(*addresses(n)) for n, node in enumerate(nodes, 1)))
            before = await cluster.keys("subnets/"), await cluster.keys("members/")
            smaller = {
                "Network": "10.99.0.0/28",
                "SubnetLen": 30,
                "IPv6Network": "fd99::/60",
                "IPv6SubnetLen": 62,
            }
            await cluster.configure(config | smaller | {"Backend": {"Type": "vxlan"}})
            await until(
                lambda: said(caplog, "config-changed") == 3, "not all three say that the config changed"
            )
            await asyncio.sleep(0.5)
            assert (await cluster.keys("subnets/"), await cluster.keys("members/")) == before
            assert not any(node.run.done() for node in nodes)

    asyncio.run(scenario())
    text = next(text for text in caplog.messages if text.startswith("config-changed"))
    assert "Backend.Type: 'vxlan' instead of 'udp'" in text
    assert "nothing changes on this node until tulled is started again" in text
    assert "its pods must be started anew" in text
