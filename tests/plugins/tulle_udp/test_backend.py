"""The udp backend keeps the contract of backends; what is flannel's about it; what it says when it cannot."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from tulle.contracts.backend import Advertisement, Backend, Endpoint, Listen
from tulle.contracts.encapsulation import EncapsulationRef
from tulle.contracts.kernel import Wanted, WantedRoute
from tulle.testing.backend_contract import BackendContract, RecordingContext
from tulle_udp.backend import UdpBackend
from tulle_udp.options import UdpOptions


class TestUdpBackend(BackendContract):
    def make_backend(self) -> Backend:
        return UdpBackend(UdpOptions())

    def test_the_lease_names_no_backend_as_flannels_does_not(self, tmp_path: Path) -> None:
        found = asyncio.run(self.make_backend().advertise(RecordingContext(tmp_path)))
        assert found == Advertisement(type="")

    def test_it_listens_where_every_node_does_and_lets_packets_be_cut(self, tmp_path: Path) -> None:
        async def run() -> None:
            _, ctx, _ = await self.started(tmp_path, (4, 6))
            assert ctx.plane.listen == (Listen(4, 8285, True), Listen(6, 8285, True))
            assert ctx.plane.encapsulation == EncapsulationRef("udp")
            assert ctx.plane.source_check == "strict"

        asyncio.run(run())

    @pytest.mark.parametrize(("families", "mtu"), [((4,), 1472), ((6,), 1452), ((4, 6), 1472)])
    def test_the_mtu_is_flannels(self, tmp_path: Path, families: tuple[int, ...], mtu: int) -> None:
        async def run() -> None:
            backend, _, _ = await self.started(tmp_path, families)  # type: ignore[arg-type]
            assert backend.mtu() == mtu

        asyncio.run(run())

    def test_the_options_reach_the_data_plane(self, tmp_path: Path) -> None:
        async def run() -> None:
            ctx = RecordingContext(tmp_path)
            backend = UdpBackend(UdpOptions(port=9000, source_check="peer", mtu=1400))
            await backend.start(ctx)
            peer = self.make_peer(2, (4,), Advertisement(type=""))
            await backend.reconcile([peer])
            assert ctx.plane.listen == (Listen(4, 9000, True),)
            assert ctx.plane.source_check == "peer"
            assert ctx.plane.peers[peer.key].endpoints == (Endpoint("192.0.2.2", 9000),)
            assert backend.mtu() == 1372
            assert backend.status() == {
                "device": "tulle0",
                "port": 9000,
                "mtu": 1372,
                "source_check": "peer",
                "direct_routing": False,
                "direct_peers": 0,
            }
            assert ctx.fake_kernel.wanted is None

        asyncio.run(run())

    def test_endpoints_of_a_family_that_this_node_lacks_are_left_out(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, _ = await self.started(tmp_path, (4,))
            both = self.make_peer(2, (4, 6), Advertisement(type=""))
            only_six = msgspec.structs.replace(
                self.make_peer(3, (6,), Advertisement(type="")), prefixes=both.prefixes
            )
            report = await backend.reconcile([both, only_six])
            assert ctx.plane.peers[both.key].endpoints == (Endpoint("192.0.2.2", 8285),)
            (problem,) = report.problems
            assert (problem.code, problem.subject) == ("peer-no-endpoint", "n3")

        asyncio.run(run())

    @pytest.mark.parametrize(("families", "mtu"), [((4,), 603), ((6,), 1327)])
    def test_an_underlay_that_leaves_no_room_is_said_in_numbers(
        self, tmp_path: Path, families: tuple[int, ...], mtu: int
    ) -> None:
        ctx = RecordingContext(tmp_path, families)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"eth0: an MTU of {mtu} leaves .* are needed; raise the MTU"):
            asyncio.run(UdpBackend(UdpOptions(mtu=mtu)).start(ctx))
        asyncio.run(UdpBackend(UdpOptions(mtu=mtu + 1)).start(ctx))


class TestUdpBackendDirect(BackendContract):
    """With DirectRouting the forwarder knows all peers just the same."""

    def make_backend(self) -> Backend:
        return UdpBackend(UdpOptions(direct_routing=True))

    def test_a_peer_on_the_link_has_a_plain_route_and_another_has_not(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            assert ctx.fake_kernel.wanted == Wanted(partial=True)
            far = msgspec.structs.replace(peers[1], endpoints=(ip_address("203.0.113.9"),))
            await backend.reconcile([peers[0], far])
            pods, near = peers[0].prefixes[0], ip_address("192.0.2.2")
            assert ctx.fake_kernel.wanted == Wanted(
                routes=(WantedRoute(pods, "eth0", "unicast", 0, gateway=near),)
            )
            assert set(ctx.plane.peers) == {peers[0].key, far.key}
            assert pods in backend.owned().routes
            assert backend.status()["direct_peers"] == 1
            await backend.stop(True)
            assert ctx.fake_kernel.wanted == Wanted()

        asyncio.run(run())

    def test_when_the_underlay_moves_the_routes_follow(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            await backend.reconcile(peers)
            ctx.underlay = msgspec.structs.replace(ctx.underlay, link="lan0")
            await backend.start(ctx)
            await backend.reconcile(peers)
            assert ctx.fake_kernel.wanted is not None
            assert {one.link for one in ctx.fake_kernel.wanted.routes} == {"lan0"}
            await backend.stop(True)

        asyncio.run(run())
