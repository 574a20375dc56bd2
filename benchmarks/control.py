"""What do peers cost the control plane: at first, and when they change?

5,000 and 20,000 nodes' leases and member records in a real etcd. A process of its own does with them what a node does,
without packets: a `LeaseManager` for the first set of peers, a real forwarder process that is told of them, and then
1,000 leases change. Measured are the time to the first table, to the forwarder's word that it has applied it, the
memory of both processes, and the processor time of both that 1,000 changes cost, from etcd's event to the engine.

(The forwarder's look-up by the number of prefixes is `lookup`.)
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from ipaddress import IPv4Address
from typing import Any

from benchmarks import leases
from benchmarks.figures import Effort, Result, Turns
from benchmarks.peers import apply, forwarder
from benchmarks.processes import cpu_s, resident_mb
from tulle.contracts.backend import Advertisement, DataPeer, Endpoint, Peer
from tulle.contracts.engine import Local
from tulle.contracts.store import Put, Store
from tulle.contracts.subnet import Claim
from tulle.forward import messages
from tulle.lease.manager import LeaseManager
from tulle.store.clock import SystemClock
from tulle.testing.etcd import EtcdServer
from tulle.worker.session import Session, connect
from tulle_etcd.store import open_store

QUESTION = "What do 5,000 and 20,000 peers cost at first, and when 1,000 leases change?"

NODES, QUICK_NODES = (5_000, 20_000), (300,)
CHANGES, QUICK_CHANGES = 1_000, 60
CHANGE_BATCH = 50
"""Leases that change in one transaction, as where many nodes renew at once."""
PORT = 8285
STEP_S = 120.0
NODE_S = 600
TABLE, APPLIED, CHANGED = "first table", "applied to the engine", "1,000 lease changes"


def measure(effort: Effort) -> Result:
    turns = Turns()
    counts: dict[str, int] = {}
    sizes = QUICK_NODES if effort.quick else NODES
    changes = effort.of(CHANGES, QUICK_CHANGES)
    for nodes in sizes:
        with EtcdServer() as etcd:
            asyncio.run(_fill(etcd.endpoints, nodes))
            for turn in range(effort.turns):
                told = _node(etcd.endpoints, nodes, changes, turn)
                subject = f"{nodes} peers"
                for figure, value in told["figures"].items():
                    turns.add(figure, subject, value)
                counts |= {f"{subject}: {name}": value for name, value in told["counts"].items()}
    figures = [turns.figure(name, UNITS[name], "lower") for name in UNITS]
    return Result(figures, counts, ["etcd runs on the same cores; a change is a lease whose node has moved"])


UNITS = {
    TABLE: "s",
    f"{TABLE}, processor time": "s",
    APPLIED: "s",
    "memory of the node": "MB resident",
    "memory of the forwarder": "MB resident",
    f"{CHANGED}, the node": "s of processor time",
    f"{CHANGED}, the forwarder": "s of processor time",
}


async def _fill(endpoints: Sequence[str], nodes: int) -> None:
    async with leases.store_of(lambda: open_store({"etcd-endpoints": endpoints})) as store:
        await leases.fill(store, nodes)


def _node(endpoints: Sequence[str], nodes: int, changes: int, turn: int) -> dict[str, Any]:
    """In a process of its own: its memory and processor time are those of a node and not of what measures."""
    order = json.dumps({"endpoints": list(endpoints), "nodes": nodes, "changes": changes, "turn": turn})
    command = [sys.executable, "-m", "benchmarks.control", order]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=NODE_S, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


async def _as_a_node(endpoints: Sequence[str], nodes: int, changes: int, turn: int) -> dict[str, Any]:
    """Raises TimeoutError."""
    with forwarder() as (process, path):
        session = await connect(path, messages.decode)
        try:
            async with leases.store_of(lambda: open_store({"etcd-endpoints": endpoints})) as store:
                await store.health()
                manager = _manager(store)
                async with leases.running(manager.run()), asyncio.timeout(STEP_S):
                    node = _Node(session, process.pid)
                    await node.starts(manager)
                    async with aclosing(manager.peers()) as sets:
                        await node.hears_first(sets)
                        changer = await asyncio.create_subprocess_exec(
                            *_CHANGER, json.dumps([list(endpoints), changes, turn])
                        )
                        await node.hears_changes(sets, changes, turn)
                        await changer.wait()
                    await manager.release()
        finally:
            session.close()
    return {"figures": node.figures, "counts": node.counts}


class _Node:
    """What a node does with peers, and what that takes."""

    def __init__(self, session: Session, forwarder_pid: int) -> None:
        self.figures: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._session, self._forwarder = session, forwarder_pid
        self._began, self._began_own = time.perf_counter(), time.process_time()
        self._known: dict[str, DataPeer] = {}

    async def starts(self, manager: LeaseManager) -> None:
        await manager.acquire(Claim("a-new-node", {4: IPv4Address("100.127.0.1")}, Advertisement(type="")))

    async def hears_first(self, sets: AsyncIterator[Sequence[Peer]]) -> None:
        peers = await anext(sets)
        self.figures[TABLE] = time.perf_counter() - self._began
        self.figures[f"{TABLE}, processor time"] = time.process_time() - self._began_own
        self._known = data_peers(peers)
        local = Local(prefixes=("10.255.255.0/24",))
        every = list(self._known.values())
        whole = messages.State(base=None, generation=1, local=local, options={}, peers=every)
        self.figures[APPLIED] = await apply(self._session, whole)
        gc.collect()
        self.figures["memory of the node"] = resident_mb(os.getpid())
        self.figures["memory of the forwarder"] = resident_mb(self._forwarder)
        self.counts["found"] = len(peers)

    async def hears_changes(self, sets: AsyncIterator[Sequence[Peer]], changes: int, turn: int) -> None:
        """Tells the forwarder of each set of peers, as `DataPlane.set_peers` does, until all changes have come."""
        own, its = time.process_time(), cpu_s(self._forwarder)
        wanted = {moved(number, turn) for number in range(changes)}
        generation = 1
        while wanted:
            fresh = data_peers(await anext(sets))
            changed = [one for key, one in fresh.items() if self._known.get(key) != one]
            self._known = fresh
            if changed:
                generation += 1
                state = messages.State(base=generation - 1, generation=generation, peers=changed)
                await apply(self._session, state)
                wanted -= {one.endpoints[0].address for one in changed}
        scale = CHANGES / changes
        tick = 1 / os.sysconf("SC_CLK_TCK")  # what took less than that is not seen
        self.figures[f"{CHANGED}, the node"] = (time.process_time() - own) * scale
        self.figures[f"{CHANGED}, the forwarder"] = max(cpu_s(self._forwarder) - its, tick) * scale
        self.counts["changed"] = changes - len(wanted)
        self.counts["sets of peers"] = generation - 1


_CHANGER = (sys.executable, "-m", "benchmarks.control", "change")


def _manager(store: Store) -> LeaseManager:
    return LeaseManager(
        store,
        leases.PREFIX,
        node="a-new-node",
        node_id="0" * 32,
        boot_id="0" * 32,
        clock=SystemClock(),
        rng=random.Random(1),
    )


def data_peers(peers: Sequence[Peer]) -> dict[str, DataPeer]:
    """As the udp backend has them."""
    return {
        one.key: DataPeer(
            one.key,
            tuple(map(str, one.prefixes)),
            tuple(Endpoint(str(end), PORT) for end in one.endpoints[:1]),
        )
        for one in peers
    }


def moved(number: int, turn: int) -> str:
    """Where the node of that number is after the turn's change."""
    return str(IPv4Address((101 << 24) + (turn << 16) + number))


async def change(endpoints: Sequence[str], changes: int, turn: int) -> None:
    """As if so many nodes had got other addresses."""
    async with leases.store_of(lambda: open_store({"etcd-endpoints": endpoints})) as store:
        lease = await store.grant(leases.TTL_S)
        puts = []
        for number in range(changes):
            (key, _), _ = leases.records(number)
            puts.append(
                Put(key, json.dumps({"PublicIP": moved(number, turn), "PublicIPv6": None}).encode(), lease)
            )
        for at in range(0, len(puts), CHANGE_BATCH):
            await store.transact([], puts[at : at + CHANGE_BATCH])


if __name__ == "__main__":
    if sys.argv[1] == "change":
        asyncio.run(change(*json.loads(sys.argv[2])))
    else:
        print(json.dumps(asyncio.run(_as_a_node(**json.loads(sys.argv[1])))))
