"""What every backend must do, with a data plane that notes what it is told.

    class TestMine(BackendContract):
        def make_backend(self):
            return MyBackend(MyOptions())

A backend that changes the kernel overrides `served` (and gives its tests a network namespace).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.contracts.backend import (
    Advertisement,
    Backend,
    DataPeer,
    DataPlane,
    Device,
    Family,
    JsonObject,
    Listen,
    Owned,
    Peer,
    Report,
    SourceCheck,
    Underlay,
)
from tulle.contracts.encapsulation import EncapsulationRef
from tulle.contracts.kernel import Kernel, LinkFacts, Wanted
from tulle.net.prefix import Address, Prefix, subnet_key

NETWORKS: Mapping[int, Prefix] = {4: ip_network("10.42.0.0/16"), 6: ip_network("fd42::/48")}
OWN: Mapping[int, Prefix] = {4: ip_network("10.42.1.0/24"), 6: ip_network("fd42:0:0:1::/64")}
CONNECTED: Mapping[int, Prefix] = {4: ip_network("192.0.2.0/24"), 6: ip_network("2001:db8::/64")}
UNDERLAY_MTU = 1500
FAMILIES: tuple[tuple[Family, ...], ...] = ((4,), (6,), (4, 6))


class RecordingDataPlane:
    """A `contracts.backend.DataPlane` that only remembers."""

    def __init__(self) -> None:
        self.device: Device | None = None
        self.listen: tuple[Listen, ...] = ()
        self.encapsulation: EncapsulationRef | None = None
        self.source_check = ""
        self.peers: dict[str, DataPeer] = {}
        self.fails_with: Exception | None = None
        """What the next `configure` raises, as where a port is in use."""

    async def configure(
        self,
        device: Device,
        listen: Sequence[Listen],
        encapsulation: EncapsulationRef,
        *,
        source_check: SourceCheck = "strict",
    ) -> None:
        if self.fails_with is not None:
            error, self.fails_with = self.fails_with, None
            raise error
        self.device, self.listen, self.encapsulation = device, tuple(listen), encapsulation
        self.source_check = source_check

    async def set_peers(self, peers: Sequence[DataPeer]) -> None:
        assert self.device is not None, "configure comes before set_peers"
        self.peers = {peer.key: peer for peer in peers}
        assert len(self.peers) == len(peers), "two peers have one key"

    def status(self) -> JsonObject:
        return {}


class RecordingKernel:
    """A `contracts.kernel.Kernel` that only remembers."""

    def __init__(self) -> None:
        self.wanted: Wanted | None = None
        self.links: dict[str, LinkFacts] = {}
        """What is there."""
        self.answer = Report()
        """To the next `want`, and those after it."""

    async def want(self, wanted: Wanted) -> Report:
        changed = () if wanted == self.wanted else ("as a test says",)
        self.wanted = wanted
        return Report(changed, self.answer.problems)

    async def link(self, name: str) -> LinkFacts | None:
        return self.links.get(name)


class RecordingContext:
    """A `contracts.backend.BackendContext`."""

    def __init__(self, state_dir: Path, families: Sequence[Family] = (4,)) -> None:
        outer: dict[Family, Address] = {
            4: ip_address("192.0.2.1"),
            6: ip_address("2001:db8::1"),
        }
        self.node = "n1"
        here = {family: outer[family] for family in families}
        connected = tuple(CONNECTED[family] for family in families)
        self.underlay = Underlay("eth0", 2, UNDERLAY_MTU, here, here, "a test says so", connected)
        self.networks = tuple(NETWORKS[family] for family in families)
        self.prefixes: tuple[Prefix, ...] = tuple(OWN[family] for family in families)
        self.state_dir = state_dir
        self.plane = RecordingDataPlane()
        self.dataplane: DataPlane = self.plane
        self.second_planes: dict[str, RecordingDataPlane] = {}
        """By the names that they were asked for by."""
        self.fake_kernel = RecordingKernel()
        self.kernel: Kernel = self.fake_kernel
        self.recalled: Advertisement | None = None
        self.published: list[Advertisement] = []
        self.asked_again = 0
        self.folders: dict[str, asyncio.Queue[Mapping[str, bytes]]] = {}
        """What `follow` gives after an empty beginning, by folder: put in what the store is to hold."""

    def second_dataplane(self, name: str) -> DataPlane:
        return self.second_planes.setdefault(name, RecordingDataPlane())

    async def publish(self, advertisement: Advertisement) -> None:
        self.published.append(advertisement)

    async def follow(self, folder: str) -> AsyncGenerator[Mapping[str, bytes], None]:
        queue = self.folders.setdefault(folder, asyncio.Queue())
        yield {}
        while True:
            yield await queue.get()

    def again(self) -> None:
        self.asked_again += 1


class BackendContract:
    """See the module."""

    def make_backend(self) -> Backend:
        """A fresh one, as its factory makes it from the options."""
        raise NotImplementedError(f"{type(self).__name__} must override make_backend")

    def make_peer(self, number: int, families: Sequence[Family], advertised: Advertisement) -> Peer:
        """Another node that runs this backend; `advertised` is what ours advertises. Override it where a peer
        needs data that is its own (a key, a MAC)."""
        outer = {4: f"192.0.2.{number}", 6: f"2001:db8::{number:x}"}
        inner = {4: f"10.42.{number}.0/24", 6: f"fd42:0:0:{number:x}::/64"}
        prefixes = tuple(ip_network(inner[family]) for family in families)
        return Peer(
            key=subnet_key(prefixes),
            node=f"n{number}",
            prefixes=prefixes,
            endpoints=tuple(ip_address(outer[family]) for family in families),
            backend=advertised.type,
            data=advertised.data,
            data_v6=advertised.data_v6,
            revision=number,
        )

    async def served(self, ctx: RecordingContext) -> set[str]:
        """Keys of the peers that packets go to now."""
        return set(ctx.plane.peers)

    async def started(
        self, state_dir: Path, families: Sequence[Family] = (4,)
    ) -> tuple[Backend, RecordingContext, list[Peer]]:
        """A backend after `start`, and three peers."""
        backend, ctx = self.make_backend(), RecordingContext(state_dir, families)
        advertised = await backend.advertise(ctx)
        await backend.start(ctx)
        return backend, ctx, [self.make_peer(number, families, advertised) for number in (2, 3, 4)]

    def test_the_advertisement_is_json_ready_and_the_same_after_a_restart(self, tmp_path: Path) -> None:
        async def run() -> None:
            ctx = RecordingContext(tmp_path)
            ctx.prefixes = ()
            first = await self.make_backend().advertise(ctx)
            assert await self.make_backend().advertise(ctx) == first
            for data in (first.data, first.data_v6):
                assert msgspec.json.decode(msgspec.json.encode(data)) == data
            assert ctx.plane.device is None, "there is no lease yet: nothing may be set up"

        asyncio.run(run())

    @pytest.mark.parametrize("families", FAMILIES)
    def test_peers_are_served_and_a_second_pass_changes_nothing(
        self, tmp_path: Path, families: Sequence[Family]
    ) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path, families)
            report = await backend.reconcile(peers)
            assert report.problems == ()
            assert await self.served(ctx) == {peer.key for peer in peers}
            before = dict(ctx.plane.peers)
            again = await backend.reconcile(list(reversed(peers)))
            assert (again.changed, again.problems) == ((), ())
            assert ctx.plane.peers == before
            await backend.stop(True)

        asyncio.run(run())

    def test_each_set_of_peers_takes_the_place_of_the_last(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            for wanted in (peers, peers[:1], [], peers[1:]):
                await backend.reconcile(wanted)
                assert await self.served(ctx) == {peer.key for peer in wanted}
            await backend.stop(True)

        asyncio.run(run())

    @pytest.mark.parametrize(
        "change", [{"backend": "carrier-pigeon"}, {"endpoints": ()}, {"backend": "x", "data": {"Odd": [1]}}]
    )
    def test_a_peer_that_cannot_be_served_is_a_problem_and_the_others_are_served(
        self, tmp_path: Path, change: Mapping[str, Any]
    ) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            odd = msgspec.structs.replace(peers[1], **change)
            report = await backend.reconcile([peers[0], odd, peers[2]])
            assert await self.served(ctx) == {peers[0].key, peers[2].key}
            assert [problem.subject for problem in report.problems] == [odd.node]
            assert all(problem.code and problem.message for problem in report.problems)
            assert (await backend.reconcile(peers)).problems == ()
            assert await self.served(ctx) == {peer.key for peer in peers}
            await backend.stop(True)

        asyncio.run(run())

    def test_hostile_data_of_a_peer_is_never_raised(self, tmp_path: Path) -> None:
        """Whoever can write the store can write anything into a lease."""

        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            names = list(peers[1].data) or ["Key"]
            values: tuple[Any, ...] = (None, 7, "", "x" * 5000, [], {}, "\0", -1, 1e300)
            for value in values:
                odd = msgspec.structs.replace(peers[1], data=dict.fromkeys(names, value), revision=99)
                await backend.reconcile([peers[0], odd, peers[2]])
                assert {peers[0].key, peers[2].key} <= await self.served(ctx)
            await backend.stop(True)

        asyncio.run(run())

    @pytest.mark.parametrize("families", FAMILIES)
    def test_the_mtu_leaves_room_for_the_overhead(self, tmp_path: Path, families: Sequence[Family]) -> None:
        async def run() -> None:
            backend, ctx, _ = await self.started(tmp_path, families)
            assert 0 < backend.mtu() <= UNDERLAY_MTU - min(backend.overhead_bytes(one) for one in families)
            if ctx.plane.device is not None:
                assert ctx.plane.device.mtu == backend.mtu()
            await backend.stop(True)

        asyncio.run(run())

    def test_the_overhead_is_no_smaller_over_ipv6(self) -> None:
        backend = self.make_backend()
        assert 0 <= backend.overhead_bytes(4) <= backend.overhead_bytes(6)

    def test_the_status_is_json_ready(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, _, peers = await self.started(tmp_path)
            await backend.reconcile(peers)
            status = backend.status()
            assert msgspec.json.decode(msgspec.json.encode(status)) == status
            await backend.stop(True)

        asyncio.run(run())

    def test_it_owns_nothing_before_it_starts_and_its_device_afterwards(self, tmp_path: Path) -> None:
        async def run() -> None:
            assert self.make_backend().owned() == Owned()
            backend, ctx, peers = await self.started(tmp_path)
            await backend.reconcile(peers)
            if ctx.plane.device is not None:
                assert ctx.plane.device.name in backend.owned().links
                assert set(ctx.plane.device.routes) <= set(backend.owned().routes)
            await backend.stop(True)

        asyncio.run(run())

    def test_the_device_has_the_nodes_addresses_and_the_clusters_routes(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, _ = await self.started(tmp_path, (4, 6))
            device = ctx.plane.device
            if device is not None:
                assert device.routes == ctx.networks
                for address in device.addresses:
                    assert address.prefixlen == address.max_prefixlen
                    assert any(address.network_address in prefix for prefix in ctx.prefixes)
                assert {one.version for one in device.addresses} == {4, 6}
            await backend.stop(True)

        asyncio.run(run())

    def test_a_start_that_the_kernel_refused_can_be_tried_again(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx = self.make_backend(), RecordingContext(tmp_path)
            advertised = await backend.advertise(ctx)
            ctx.plane.fails_with = OSError("port in use")
            try:
                await backend.start(ctx)
            except OSError:
                await backend.start(ctx)
            peer = self.make_peer(2, (4,), advertised)
            await backend.reconcile([peer])
            assert await self.served(ctx) == {peer.key}
            await backend.stop(True)

        asyncio.run(run())

    @pytest.mark.parametrize("remove", [False, True])
    def test_stopping_twice_is_as_good_as_once_and_another_can_start(
        self, tmp_path: Path, remove: bool
    ) -> None:
        async def run() -> None:
            backend, _, peers = await self.started(tmp_path)
            await backend.reconcile(peers)
            await backend.stop(remove)
            await backend.stop(remove)
            again, ctx, peers = await self.started(tmp_path)
            await again.reconcile(peers)
            assert await self.served(ctx) == {peer.key for peer in peers}
            await again.stop(True)

        asyncio.run(run())

    def test_stopping_before_the_start_is_no_error(self) -> None:
        asyncio.run(self.make_backend().stop(True))
