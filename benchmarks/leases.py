"""How long until a new node knows 20,000 others?

A real etcd and a sqlite file are filled with a cluster's leases and member records, as tulle writes them. Measured are
a bare listing of the leases; the same leases in a `PeerTable` by way of a `Mirror`, as if all nodes ran flannel, and
with the member records in a second one, as a running tulled gets them; and a node's first set of peers by way of the
whole `LeaseManager`, which gets a subnet among all those, too. Our own processor time stands beside the wall time: it
does not wait for etcd or for others.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import NamedTuple

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

LISTED, IN_TABLE, WITH_MEMBERS, MANAGED = (
    "listed",
    "in the peer table",
    "with member records",
    "first peers of a new node",
)
Open = Callable[[], Store]


class Taken(NamedTuple):
    """What a step took, without what it needed to end, and how many nodes it found."""

    wall_s: float
    own_s: float
    """Processor time of this process."""
    found: int


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
            for what, step in STEPS.items():
                gc.collect()
                async with store_of(opened) as store:
                    await store.health()  # a connection is there; what is measured is the leases
                    taken = await step(store)
                turns.add(f"{name}, {nodes} nodes", what, taken.wall_s)
                turns.add(f"{name}, own processor time", what, taken.own_s)
                counts[f"{name}: {what}"] = taken.found
    figures = []
    for name in stores:
        aims = [] if effort.quick else [Aim(IN_TABLE, AIM_S)]
        figures.append(turns.figure(f"{name}, {nodes} nodes", "s", "lower", baseline=LISTED, aims=aims))
        figures.append(turns.figure(f"{name}, own processor time", "s", "lower", baseline=LISTED))
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


class Stopwatch:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._wall_s, self._own_s = time.perf_counter(), time.process_time()

    def stop(self, found: int) -> Taken:
        return Taken(time.perf_counter() - self._wall_s, time.process_time() - self._own_s, found)


async def listed(store: Store) -> Taken:
    watch = Stopwatch()
    listing = await store.list(f"{PREFIX}/subnets/")
    return watch.stop(len(listing.items))


async def in_table(store: Store) -> Taken:
    """Raises TimeoutError."""
    watch = Stopwatch()
    leases: Mirror[Lease] = Mirror(
        store, f"{PREFIX}/subnets/", decode_lease, clock=SystemClock(), rng=random.Random(1)
    )
    async with running(leases.run()), asyncio.timeout(STEP_S):
        await leases.synced.wait()
        table = PeerTable("", (), (NETWORK,))
        with leases.subscribe() as changes:
            table.apply(changes.take(), None)
        taken = watch.stop(len(table.peers()))
        await connected(lambda: leases.connected)
    return taken


async def with_members(store: Store) -> Taken:
    """What `LeaseManager.peers` does, without a lease of our own; counts the peers whose name is known. Raises
    TimeoutError."""
    watch = Stopwatch()
    clock, rng = SystemClock(), random.Random(1)
    leases: Mirror[Lease] = Mirror(store, f"{PREFIX}/subnets/", decode_lease, clock=clock, rng=rng)
    members: Mirror[Member] = Mirror(store, f"{PREFIX}/members/", decode_member, clock=clock, rng=rng)
    async with running(leases.run()), running(members.run()), asyncio.timeout(STEP_S):
        await leases.synced.wait()
        await members.synced.wait()
        table = PeerTable("", (), (NETWORK,))
        with leases.subscribe() as new_leases, members.subscribe() as new_members:
            table.apply(new_leases.take(), new_members.take())
        peers = table.peers()
        taken = watch.stop(sum(peer.node.startswith("node-") for peer in peers))
        await connected(lambda: leases.connected and members.connected)
    return taken


async def managed(store: Store) -> Taken:
    """The lease that the new node got is given back. Raises TimeoutError."""
    watch = Stopwatch()
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
    async with running(manager.run()), asyncio.timeout(STEP_S):
        await manager.acquire(claim)
        async with aclosing(manager.peers()) as sets:
            taken = watch.stop(len(await anext(sets)))
        await manager.release()
        await connected(
            lambda: all(one["state"] == "connected" for one in manager.status()["mirrors"].values())
        )
    return taken


STEPS: dict[str, Callable[[Store], Awaitable[Taken]]] = {
    LISTED: listed,
    IN_TABLE: in_table,
    WITH_MEMBERS: with_members,
    MANAGED: managed,
}


@asynccontextmanager
async def running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Have it run beside the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def connected(stand: Callable[[], bool]) -> None:
    """Wait for watches, which outlive the listing in a daemon: their end belongs to no measurement. Raises
    TimeoutError."""
    async with asyncio.timeout(STEP_S):
        while not stand():  # noqa: ASYNC110  # mirrors tell their readers of keys, not of their watch
            await asyncio.sleep(0.005)
