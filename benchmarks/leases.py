"""How long until a new node knows 20,000 others?

A real etcd and a sqlite file are filled with a cluster's leases and member records, as tulle writes them. Measured are
a bare listing of the leases; the same leases in a `PeerTable` by way of two `Mirror`s, as a running tulled gets them;
and a node's first set of peers by way of the whole `LeaseManager`, which gets a subnet among all those, too.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from benchmarks.figures import Aim, Effort, Result, Turns
from tulle.contracts.backend import Advertisement
from tulle.contracts.store import Put, Store
from tulle.contracts.subnet import Claim
from tulle.lease.codec import decode_lease, decode_member, encode_lease, encode_member
from tulle.lease.manager import LeaseManager
from tulle.lease.model import Lease, Member
from tulle.lease.table import PeerTable
from tulle.net.prefix import prefix_from_int, subnet_key
from tulle.store.clock import SystemClock
from tulle.store.mirror import Mirror
from tulle.testing.etcd import EtcdServer
from tulle_etcd.store import open_store
from tulle_sqlite.store import open_sqlite

QUESTION = "How long until a new node knows 20,000 others?"

NODES, QUICK_NODES = 20_000, 500
NETWORK = ip_network("10.0.0.0/8")
SUBNET_LEN = 24
FIRST_PUBLIC = int(IPv4Address("100.64.0.1"))
PREFIX = "/coreos.com/network"
CONFIG = b'{"Network": "10.0.0.0/8", "SubnetLen": 24, "Backend": {"Type": "udp"}}'
TTL_S = 86_400
BATCH = 120
"""Operations in one transaction: etcd takes 128 (--max-txn-ops)."""
AIM_S = 1.0

STEP_S = 60.0
"""A step that takes longer does not work."""

LISTED, IN_TABLE, MANAGED = "listed", "in the peer table", "first peers of a new node"
Open = Callable[[], Store]


def measure(effort: Effort) -> Result:
    nodes = effort.of(NODES, QUICK_NODES)
    with EtcdServer() as etcd, tempfile.TemporaryDirectory(prefix="tulle-bench-") as directory:
        stores: dict[str, Open] = {
            "etcd": lambda: open_store({"etcd-endpoints": etcd.endpoints}),
            "sqlite": lambda: open_sqlite({"sqlite-file": str(Path(directory, "store.sqlite"))}),
        }
        return asyncio.run(_measure(stores, nodes, effort))


async def _measure(stores: dict[str, Open], nodes: int, effort: Effort) -> Result:
    turns = Turns()
    counts: dict[str, int] = {}
    for opened in stores.values():
        async with store_of(opened) as store:
            await fill(store, nodes)
    for _ in range(effort.turns):
        for name, opened in stores.items():
            for what, step in ((LISTED, listed), (IN_TABLE, in_table), (MANAGED, managed)):
                gc.collect()
                async with store_of(opened) as store:
                    await store.health()  # a connection is there; what is measured is the leases
                    taken_s, found = await step(store, nodes)
                turns.add(name, what, taken_s)
                counts[f"{name}: {what}"] = found
    figures = [
        turns.figure(
            name,
            f"s, {nodes} nodes",
            "lower",
            baseline=LISTED,
            aims=[] if effort.quick else [Aim(IN_TABLE, AIM_S)],
        )
        for name in stores
    ]
    return Result(figures, counts, ["each node has a lease and a member record; etcd runs on the same cores"])


@asynccontextmanager
async def store_of(opened: Open) -> AsyncIterator[Store]:
    store = opened()
    try:
        yield store
    finally:
        await store.close()


def records(number: int) -> Sequence[tuple[str, bytes]]:
    """Keys and values of the node of that number."""
    prefix = prefix_from_int(4, int(NETWORK.network_address) + (number + 1 << 8), SUBNET_LEN)
    key, name = subnet_key((prefix,)), f"node-{number:05}"
    public = IPv4Address(FIRST_PUBLIC + number)
    lease = Lease(key, (prefix,), {4: public})
    member = Member(name, id=f"{number:032x}", boot_id=f"{number:032x}", subnets=(key,), endpoints=(public,))
    return (f"{PREFIX}/subnets/{key}", encode_lease(lease)), (
        f"{PREFIX}/members/{name}",
        encode_member(member),
    )


async def fill(store: Store, nodes: int) -> None:
    lease = await store.grant(TTL_S)
    puts = [Put(key, value, lease) for number in range(nodes) for key, value in records(number)]
    await store.transact([], [Put(f"{PREFIX}/config", CONFIG)])
    for at in range(0, len(puts), BATCH):
        await store.transact([], puts[at : at + BATCH])


async def listed(store: Store, nodes: int) -> tuple[float, int]:
    start = time.perf_counter()
    listing = await store.list(f"{PREFIX}/subnets/")
    return time.perf_counter() - start, len(listing.items)


async def in_table(store: Store, nodes: int) -> tuple[float, int]:
    """What `LeaseManager.peers` does, without a lease of our own. Raises TimeoutError."""
    start = time.perf_counter()
    clock, rng = SystemClock(), random.Random(1)
    leases: Mirror[Lease] = Mirror(store, f"{PREFIX}/subnets/", decode_lease, clock=clock, rng=rng)
    members: Mirror[Member] = Mirror(store, f"{PREFIX}/members/", decode_member, clock=clock, rng=rng)
    running = [asyncio.create_task(mirror.run()) for mirror in (leases, members)]
    try:
        async with asyncio.timeout(STEP_S):
            await leases.synced.wait()
            await members.synced.wait()
            table = PeerTable("", (), (NETWORK,))
            with leases.subscribe() as new_leases, members.subscribe() as new_members:
                table.apply(new_leases.take(), new_members.take())
            peers = table.peers()
        taken = time.perf_counter() - start
        await connected(lambda: leases.connected and members.connected)
        return taken, sum(peer.node.startswith("node-") for peer in peers)
    finally:
        await ended(running)


async def managed(store: Store, nodes: int) -> tuple[float, int]:
    """The lease that the new node got is given back. Raises TimeoutError."""
    start = time.perf_counter()
    name = "a-new-node"
    claim = Claim(node=name, public={4: IPv4Address("100.127.0.1")}, advertisement=Advertisement(type=""))
    manager = LeaseManager(
        store,
        PREFIX,
        node=name,
        node_id="0" * 32,
        boot_id="0" * 32,
        clock=SystemClock(),
        rng=random.Random(1),
    )
    running = [asyncio.create_task(manager.run())]
    try:
        async with asyncio.timeout(STEP_S):
            await manager.acquire(claim)
            peers = await anext(manager.peers())
        taken = time.perf_counter() - start
        await manager.release()
        await connected(
            lambda: all(one["state"] == "connected" for one in manager.status()["mirrors"].values())
        )
        return taken, len(peers)
    finally:
        await ended(running)


async def connected(stand: Callable[[], bool]) -> None:
    """Wait for watches, which outlive the listing in a daemon: their end belongs to no measurement. Raises
    TimeoutError."""
    async with asyncio.timeout(STEP_S):
        while not stand():  # noqa: ASYNC110  # mirrors tell their readers of keys, not of their watch
            await asyncio.sleep(0.005)


async def ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
