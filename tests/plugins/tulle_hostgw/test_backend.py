"""The host-gw backend keeps the contract of backends; it states all its routes, and follows the underlay."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.contracts.backend import Advertisement, Backend, Family, Owned, Peer
from tulle.contracts.kernel import Wanted, WantedRoute
from tulle.testing.backend_contract import FAMILIES, UNDERLAY_MTU, BackendContract, RecordingContext
from tulle_hostgw.backend import HostGwBackend


def routes(ctx: RecordingContext) -> tuple[WantedRoute, ...]:
    assert ctx.fake_kernel.wanted is not None
    assert ctx.fake_kernel.wanted == Wanted(routes=ctx.fake_kernel.wanted.routes), (
        "host-gw wants routes alone"
    )
    return ctx.fake_kernel.wanted.routes


class TestHostGwBackend(BackendContract):
    def make_backend(self) -> Backend:
        return HostGwBackend()

    async def served(self, ctx: RecordingContext) -> set[str]:
        """The peers' keys begin with their first subnet."""
        firsts = [route for route in routes(ctx) if route.destination.version == ctx.networks[0].version]
        if len(ctx.networks) == 1:
            return {f"{one.destination.network_address}-{one.destination.prefixlen}" for one in firsts}
        number = {one.destination: str(one.gateway).rpartition(".")[2] for one in firsts}
        return {f"10.42.{one}.0-24&fd42:0:0:{int(one):x}::-64" for one in number.values()}

    @pytest.mark.parametrize("families", FAMILIES)
    def test_each_subnet_has_a_route_by_its_node_and_the_underlays_mtu(
        self, tmp_path: Path, families: Sequence[Family]
    ) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path, families)
            await backend.reconcile(peers)
            wanted = [
                WantedRoute(prefix, "eth0", "unicast", 0, gateway=address)
                for peer in peers
                for prefix, address in zip(peer.prefixes, peer.endpoints, strict=True)
            ]
            assert list(routes(ctx)) == wanted
            assert backend.mtu() == UNDERLAY_MTU
            assert backend.owned() == Owned(routes=tuple(one.destination for one in wanted))
            assert ctx.plane.device is None

        asyncio.run(run())

    def test_the_lease_says_host_gw(self, tmp_path: Path) -> None:
        found = asyncio.run(self.make_backend().advertise(RecordingContext(tmp_path)))
        assert found == Advertisement(type="host-gw")

    def test_what_is_there_at_the_start_stays_until_the_peers_are_known(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            assert ctx.fake_kernel.wanted == Wanted(partial=True)
            await backend.reconcile(peers)
            before = routes(ctx)
            await backend.start(ctx)
            assert routes(ctx) == before, "a later start takes no route away"

        asyncio.run(run())

    def test_a_peer_that_is_not_adjacent_is_refused_and_the_others_are_served(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            far = msgspec.structs.replace(peers[1], endpoints=(ip_address("203.0.113.7"),))
            report = await backend.reconcile([peers[0], far, peers[2]])
            assert [(one.code, one.subject) for one in report.problems] == [("peer-not-adjacent", "n3")]
            assert await self.served(ctx) == {peers[0].key, peers[2].key}
            assert backend.status() == {"link": "eth0", "mtu": UNDERLAY_MTU, "routes": 2, "refused_peers": 1}

        asyncio.run(run())

    @pytest.mark.parametrize(
        ("change", "link", "served"),
        [
            ({"link": "lan0"}, "lan0", {"n2", "n3", "n4"}),
            ({"connected": (ip_network("192.0.2.0/30"),)}, "eth0", {"n2", "n3"}),
            ({"addresses": {4: ip_address("192.0.2.4")}}, "eth0", {"n1", "n2", "n3"}),
        ],
        ids=["renamed", "narrower", "renumbered"],
    )
    def test_the_routes_follow_the_underlay(
        self, tmp_path: Path, change: dict[str, Any], link: str, served: set[str]
    ) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            first = msgspec.structs.replace(peers[0], key="10.42.9.0-24", node="n1")
            first = msgspec.structs.replace(
                first, prefixes=(ip_network("10.42.9.0/24"),), endpoints=(ip_address("192.0.2.1"),)
            )
            all_of_them = [first, *peers]
            await backend.reconcile(all_of_them)
            changed = {"public": change["addresses"], **change} if "addresses" in change else change
            ctx.underlay = msgspec.structs.replace(ctx.underlay, **changed)
            await backend.start(ctx)
            report = await backend.reconcile(all_of_them)
            refused = {problem.subject for problem in report.problems}
            assert {peer.node for peer in all_of_them} - refused == served
            assert {(one.link, str(one.gateway)) for one in routes(ctx)} == {
                (link, f"192.0.2.{node[1:]}") for node in served
            }

        asyncio.run(run())

    def test_a_peers_new_address_changes_its_route_and_no_other(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            await backend.reconcile(peers)
            before = set(routes(ctx))
            moved: Peer = msgspec.structs.replace(peers[1], endpoints=(ip_address("192.0.2.99"),))
            await backend.reconcile([peers[0], moved, peers[2]])
            (new,) = set(routes(ctx)) - before
            assert (str(new.destination), str(new.gateway)) == ("10.42.3.0/24", "192.0.2.99")

        asyncio.run(run())

    def test_down_leaves_no_route_wanted_and_an_end_leaves_all(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            await backend.reconcile(peers)
            before = routes(ctx)
            await backend.stop(False)
            assert routes(ctx) == before
            await backend.stop(True)
            assert routes(ctx) == ()

        asyncio.run(run())

    def test_a_public_address_that_is_not_on_the_link_is_refused_until_it_is(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx = self.make_backend(), RecordingContext(tmp_path)
            right = ctx.underlay
            ctx.underlay = msgspec.structs.replace(right, public={4: ip_address("203.0.113.7")})
            with pytest.raises(OSError, match=r"203\.0\.113\.7, which other nodes are told \(--public-ip\)"):
                await backend.start(ctx)
            ctx.underlay = msgspec.structs.replace(right, public={4: ip_address("192.0.2.77")})
            await backend.start(ctx)

        asyncio.run(run())
