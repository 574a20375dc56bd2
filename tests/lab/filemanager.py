"""A third party's subnet manager, whole: the cluster is one JSON file that all nodes see.

`test_subnet_manager.py` installs this file as a distribution of its own. It shows that the contract is enough: it uses
contracts, hooks and pure tools of tulle, and no store.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec

from tulle.config.network import NetworkConfig, parse_network_config
from tulle.contracts.backend import Peer
from tulle.contracts.specs import OptionSpec, SubnetManagerSpec
from tulle.contracts.store import Health, Unavailable
from tulle.contracts.subnet import Claim, DuplicateNode, SubnetLost
from tulle.files import write_atomically
from tulle.hookspecs import hookimpl
from tulle.net.prefix import Prefix, subnet_key

POLL_S = 0.05
BEAT_S = 0.5
ALIVE_S = 3.0
"""After its last word a node's name may be taken."""


@hookimpl
def tulle_subnet_managers() -> list[SubnetManagerSpec]:
    file = OptionSpec(name="cluster-file", help="the JSON file that the whole cluster shares")
    return [
        SubnetManagerSpec(
            name="filemanager",
            factory=f"{__name__}:FileManager",
            options=(file,),
            chosen_by=("cluster-file",),
            summary="Subnets in a JSON file.",
        )
    ]


class Node(msgspec.Struct):
    """One node in the file."""

    id: str
    subnets: list[str]
    public: dict[str, str]
    backend: str = ""
    data: Mapping[str, Any] = {}
    data_v6: Mapping[str, Any] = {}
    revision: int = 0
    alive_until: float = 0.0


class Cluster(msgspec.Struct):
    """The file."""

    config: dict[str, Any] | None = None
    nodes: dict[str, Node] = {}


class FileManager:
    """A `contracts.subnet.SubnetManager`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if not settings["cluster-file"]:
            raise ValueError("name the cluster's file with --cluster-file")
        self._file = Path(settings["cluster-file"])
        self._claim: Claim | None = None
        self._prefixes: tuple[Prefix, ...] = ()

    @property
    def location(self) -> str:
        return str(self._file)

    async def run(self) -> None:
        while True:
            if self._prefixes:
                with self.edit() as cluster:
                    self._mine(cluster).alive_until = time.time() + ALIVE_S
            await asyncio.sleep(BEAT_S)

    async def network_config(self) -> bytes:
        while (config := self._read().config) is None:
            await asyncio.sleep(POLL_S)
        return json.dumps(config).encode()

    async def acquire(self, claim: Claim) -> tuple[Prefix, ...]:
        config = parse_network_config(await self.network_config())
        while True:
            with self.edit() as cluster:
                if prefixes := self._taken(cluster, config, claim):
                    cluster.nodes[claim.node] = self._node(cluster, claim, prefixes)
                    self._claim, self._prefixes = claim, prefixes
                    return prefixes
            await asyncio.sleep(POLL_S)

    async def update(self, claim: Claim) -> None:
        with self.edit() as cluster:
            self._mine(cluster)
            cluster.nodes[claim.node] = self._node(cluster, claim, self._prefixes)
            self._claim = claim

    async def peers(self) -> AsyncIterator[Sequence[Peer]]:
        told: list[Peer] | None = None
        while True:
            if self._claim is not None:
                nodes = self._read().nodes
                found = [_peer(name, nodes[name]) for name in sorted(nodes) if name != self._claim.node]
                if found != told:
                    told = found
                    yield found
            await asyncio.sleep(POLL_S)

    async def health(self) -> Health:
        began = time.perf_counter()
        if not self._file.exists():
            raise Unavailable(f"{self._file} is not there: write it again, or mount what it lies on")
        self._read()
        return Health(endpoint=self.location, latency_s=time.perf_counter() - began, version="one file")

    def status(self) -> dict[str, Any]:
        return {"kept": [str(one) for one in self._prefixes]}

    async def release(self) -> None:
        if self._claim is not None:
            with self.edit() as cluster:
                cluster.nodes.pop(self._claim.node, None)
            self._prefixes = ()

    async def close(self) -> None:
        if self._prefixes:
            with self.edit() as cluster:
                self._mine(cluster).alive_until = 0.0
            self._prefixes = ()

    # The file

    def _read(self) -> Cluster:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Cluster)
        except FileNotFoundError:
            return Cluster()

    @contextmanager
    def edit(self) -> Iterator[Cluster]:
        """One at a time; nothing is written where the block raises."""
        with open(f"{self._file}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self._read()
            after = msgspec.convert(msgspec.to_builtins(before), Cluster)
            yield after
            if after != before:
                write_atomically(self._file, msgspec.json.encode(after), mode=0o600)

    def _taken(self, cluster: Cluster, config: NetworkConfig, claim: Claim) -> tuple[Prefix, ...]:
        """What we have, had, or what is free; () where nothing is."""
        old = cluster.nodes.get(claim.node)
        if old is not None and old.id != claim.node_id and old.alive_until > time.time():
            raise DuplicateNode(f"a node {claim.node!r} is alive in {self._file}: give this one another name")
        others = [node for name, node in cluster.nodes.items() if name != claim.node]
        taken = [ip_network(one) for node in others for one in node.subnets]
        had = [ip_network(one) for one in old.subnets] if old is not None else []
        found = []
        for family in config.families:
            subnets = family.subnets()
            wishes = [one for one in (*had, *claim.previous) if subnets.fits(one) and one not in taken]
            found += wishes[:1] or subnets.first_free(taken, 1)
        return tuple(found) if len(found) == len(config.families) else ()

    def _node(self, cluster: Cluster, claim: Claim, prefixes: Sequence[Prefix]) -> Node:
        old = cluster.nodes.get(claim.node)
        said = claim.advertisement
        return Node(
            id=claim.node_id,
            subnets=[str(one) for one in prefixes],
            public={str(family): str(address) for family, address in claim.public.items()},
            backend=said.type,
            data=said.data,
            data_v6=said.data_v6,
            revision=old.revision + 1 if old is not None else 1,
            alive_until=time.time() + ALIVE_S,
        )

    def _mine(self, cluster: Cluster) -> Node:
        assert self._claim is not None
        found = cluster.nodes.get(self._claim.node)
        if found is None or found.id != self._claim.node_id:
            raise SubnetLost(
                f"{self._file} no longer gives a subnet to {self._claim.node!r}: start tulled again"
            )
        return found


def _peer(name: str, node: Node) -> Peer:
    prefixes = tuple(ip_network(one) for one in node.subnets)
    return Peer(
        key=subnet_key(prefixes),
        node=name,
        prefixes=prefixes,
        endpoints=tuple(ip_address(one) for one in node.public.values()),
        backend=node.backend,
        data=node.data,
        data_v6=node.data_v6,
        revision=node.revision,
    )
