"""Nodes that share a memory store on a virtual clock, over a line that may be slow and lossy."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from ipaddress import ip_address
from typing import Any

import pytest

from tulle.contracts.backend import Address, Advertisement, Family, Peer
from tulle.contracts.store import (
    Compare,
    KeyValue,
    LeaseId,
    Listing,
    Op,
    Put,
    Revision,
    TxnResult,
    Unavailable,
    WatchBatch,
)
from tulle.contracts.subnet import Claim
from tulle.lease.manager import LeaseManager
from tulle.net.prefix import Prefix
from tulle.testing.clock import VirtualClock
from tulle_memory.store import MemoryStore, MemoryWorld

PREFIX = "/coreos.com/network"


LONGEST_CALL_S = 2.0
LONGEST_STRAY_S = 40.0
"""How long a request may be on its way after its caller has given up."""
LOST = 0.04
"""Of the calls, on a slow line."""


class StillWorld(MemoryWorld):
    """One that no timer of the real clock wakes, and that wakes watches in the order in which they came: the same
    accidents give the same end, which hypothesis needs to find the smallest."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._order: dict[asyncio.Event, None] = {}

    def until_next_expiry(self) -> None:
        """The virtual clock calls `expire` at each step."""

    def subscribe(self) -> asyncio.Event:
        bell = asyncio.Event()
        self._order[bell] = None
        return bell

    def unsubscribe(self, bell: asyncio.Event) -> None:
        del self._order[bell]

    def ring(self) -> None:
        for bell in self._order:
            bell.set()


class SlowStore(MemoryStore):
    """A client on a bad line: each request, answer and watch takes its own time, so they overtake each other. Some
    answers are lost, of which some requests arrive all the same, even after their caller has been killed."""

    def __init__(self, world: MemoryWorld, clock: VirtualClock, seed: int) -> None:
        super().__init__(world)
        self._clock, self._seed = clock, seed
        self._rngs: dict[str, random.Random] = {}
        self._last_words: float | None = None
        self._line = world.client()
        self._sent: set[asyncio.Future[Any]] = set()

    def _rng(self, what: str) -> random.Random:
        """One for each kind of call, so that tasks that wake at one moment, in any order, draw the same."""
        return self._rngs.setdefault(what, random.Random(f"{self._seed} {what}"))

    async def _over_the_line(self, what: str, request: Callable[[], Awaitable[Any]]) -> Any:
        self._check_usable()
        rng = self._rng(what)
        lost = rng.random() < LOST
        back_s = rng.uniform(0, LONGEST_CALL_S / 2)
        travel_s = rng.uniform(0, LONGEST_STRAY_S if lost else LONGEST_CALL_S / 2)

        async def arrive() -> Any:
            arrives = self._clock.now() + travel_s
            while (left_s := self._arrival(arrives) - self._clock.now()) > 0:
                await self._clock.sleep(min(left_s, 1.0))
            return await request()

        sent = asyncio.ensure_future(arrive())
        self._sent.add(sent)
        sent.add_done_callback(self._sent.discard)
        sent.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else may look
        if lost:
            await self._clock.sleep(LONGEST_CALL_S)
            raise Unavailable("no answer came in time, as the test has it")
        answer = await asyncio.shield(sent)
        await self._clock.sleep(back_s)
        self._check_usable()
        return answer

    def _arrival(self, otherwise: float) -> float:
        """What a killed process had sent comes all together, as its kernel's TCP does it."""
        if not self._closed:
            return otherwise
        if self._last_words is None:
            self._last_words = self._clock.now() + self._rng("end").uniform(0, LONGEST_STRAY_S)
        return self._last_words

    async def get(self, key: str) -> KeyValue | None:
        return await self._over_the_line(f"get {key}", lambda: self._line.get(key))  # type: ignore[no-any-return]

    async def list(
        self, prefix: str, *, revision: Revision | None = None, keys_only: bool = False
    ) -> Listing:
        found = await self._over_the_line(
            f"list {prefix}", lambda: self._line.list(prefix, revision=revision, keys_only=keys_only)
        )
        return found  # type: ignore[no-any-return]

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()
    ) -> TxnResult:
        # Lists, since the caller may change what it gave while this is on its way.
        parts = list(compares), list(then), list(otherwise)
        what = " ".join(compare.key for compare in compares)
        return await self._over_the_line(what, lambda: self._line.transact(*parts))  # type: ignore[no-any-return]

    async def grant(self, ttl_s: int) -> LeaseId:
        return await self._over_the_line(f"grant {ttl_s}", lambda: self._line.grant(ttl_s))  # type: ignore[no-any-return]

    async def keepalive(self, lease: LeaseId) -> float:
        return await self._over_the_line(f"keepalive {lease}", lambda: self._line.keepalive(lease))  # type: ignore[no-any-return]

    async def revoke(self, lease: LeaseId) -> None:
        await self._over_the_line(f"revoke {lease}", lambda: self._line.revoke(lease))

    async def watch(self, prefix: str, *, after: Revision) -> AsyncGenerator[WatchBatch, None]:
        async with aclosing(super().watch(prefix, after=after)) as batches:
            async for batch in batches:
                await self._clock.sleep(self._rng(f"watch {prefix}").uniform(0, LONGEST_CALL_S))
                yield batch

    async def end(self) -> None:
        for sent in tuple(self._sent):
            sent.cancel()
        await asyncio.gather(*self._sent, return_exceptions=True)


class Node:
    """A LeaseManager that runs, as tulled would run it."""

    def __init__(self, cluster: Cluster, name: str, node_id: str, boot_id: str) -> None:
        self.clock = cluster.clock
        self.store = cluster.client()
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

    def __init__(self, seed: int = 7, *, slow: bool = False) -> None:
        self.clock = VirtualClock()
        self.world = StillWorld(self.clock.now)
        self.clock.on_move.append(self.world.expire)
        self.other: MemoryStore = self.world.client()
        self.nodes: list[Node] = []
        self._rng = random.Random(seed)
        self._slow = slow

    def client(self) -> MemoryStore:
        if self._slow:
            return SlowStore(self.world, self.clock, self.seed())
        return self.world.client()

    def seed(self) -> int:
        return self._rng.getrandbits(32)

    async def configure(self, **config: Any) -> None:
        await self.put("config", json.dumps(config or {"Network": "10.5.0.0/16"}).encode())

    async def put(self, key: str, value: bytes, ttl_s: int | None = None, *, on: int = 0) -> int:
        """`on`: a store lease that is there already."""
        lease = LeaseId(on) if ttl_s is None else await self.other.grant(ttl_s)
        await self.other.transact([], [Put(f"{PREFIX}/{key}", value, lease)])
        return lease

    async def write_together(self, *keys: str) -> None:
        """The same values once more, at one revision and without a TTL."""
        found = await self.keys()
        await self.other.transact([], [Put(found[key].key, found[key].value) for key in keys])

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
            if isinstance(node.store, SlowStore):
                await node.store.end()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(scope="session")
def cluster_type() -> type[Cluster]:
    """For tests that need many clusters."""
    return Cluster
