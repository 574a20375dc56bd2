"""Nodes that share a memory store on a virtual clock."""

from __future__ import annotations

import asyncio
import json
import random
from ipaddress import ip_address
from typing import Any

import pytest

from tulle.contracts.backend import Address, Advertisement, Family, Peer
from tulle.contracts.store import Put
from tulle.contracts.subnet import Claim
from tulle.lease.manager import LeaseManager
from tulle.net.prefix import Prefix
from tulle.testing.clock import VirtualClock
from tulle_memory.store import MemoryStore, MemoryWorld

PREFIX = "/coreos.com/network"


class Node:
    """A LeaseManager that runs, as tulled would run it."""

    def __init__(self, cluster: Cluster, name: str, node_id: str, boot_id: str) -> None:
        self.clock = cluster.clock
        self.store = cluster.world.client()
        self.name = name
        self.manager = LeaseManager(
            self.store,
            PREFIX,
            node=name,
            node_id=node_id,
            boot_id=boot_id,
            clock=cluster.clock,
            rng=random.Random(cluster.seed()),
        )
        self.run = asyncio.ensure_future(self.manager.run())
        self.acquiring: asyncio.Future[tuple[Prefix, ...]] | None = None

    def claim(self, *public: str, kind: str = "", previous: tuple[Prefix, ...] = (), **data: Any) -> Claim:
        addresses: dict[Family, Address] = {}
        for text in public:
            address = ip_address(text)
            addresses[address.version] = address
        return Claim(self.name, addresses, Advertisement(kind, data), previous)

    async def acquire(self, *public: str, within: float = 3600.0, **more: Any) -> tuple[Prefix, ...]:
        return await self.clock.run(self.manager.acquire(self.claim(*public, **more)), within)

    def begin(self, *public: str, **more: Any) -> asyncio.Future[tuple[Prefix, ...]]:
        self.acquiring = asyncio.ensure_future(self.manager.acquire(self.claim(*public, **more)))
        return self.acquiring

    async def peers(self) -> dict[str, Peer]:
        """What `peers` gives first now, by node name."""
        found = self.manager.peers()
        peers = await self.clock.run(anext(found), within=60)
        await found.aclose()
        return {peer.node: peer for peer in peers}

    async def kill(self) -> None:
        """As kill -9: nothing is given back."""
        tasks = [task for task in (self.run, self.acquiring) if task is not None]
        for task in tasks:
            task.cancel()
        self.store._closed = True  # first, so that nothing more reaches the store
        await asyncio.gather(*tasks, return_exceptions=True)


class Cluster:
    """A world, its time, and a client for everybody who is not tulle (flannel, etcdctl)."""

    def __init__(self, seed: int = 7) -> None:
        self.clock = VirtualClock()
        self.world = MemoryWorld(self.clock.now)
        self.clock.on_move.append(self.world.expire)
        self.other: MemoryStore = self.world.client()
        self.nodes: list[Node] = []
        self._rng = random.Random(seed)

    def seed(self) -> int:
        return self._rng.getrandbits(32)

    async def configure(self, **config: Any) -> None:
        await self.put("config", json.dumps(config or {"Network": "10.5.0.0/16"}).encode())

    async def put(self, key: str, value: bytes, ttl_s: int | None = None) -> int:
        lease = await self.other.grant(ttl_s) if ttl_s is not None else 0
        await self.other.transact([], [Put(f"{PREFIX}/{key}", value, lease)])
        return lease

    async def start(self, name: str, node_id: str = "", boot_id: str = "boot") -> Node:
        node = Node(self, name, node_id or f"id-of-{name}", boot_id)
        self.nodes.append(node)
        await self.clock.settle()
        return node

    async def keys(self) -> dict[str, Any]:
        """Everything there is, by the key behind the prefix, as (value, store lease)."""
        listing = await self.other.list(f"{PREFIX}/")
        return {kv.key[len(PREFIX) + 1 :]: kv for kv in listing.items}

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.kill()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(scope="session")
def cluster_type() -> type[Cluster]:
    """For tests that need many clusters."""
    return Cluster
