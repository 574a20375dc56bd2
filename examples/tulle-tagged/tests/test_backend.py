"""The node's side: tulle's contract for every backend, then what is our own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tulle.contracts.backend import Advertisement, Backend, Endpoint, Family, Peer
from tulle.testing.backend_contract import BackendContract, RecordingContext

from tulle_tagged.backend import TaggedBackend
from tulle_tagged.options import TaggedOptions

BLUE = TaggedOptions(cluster="blue", port=9000)


class TestTagged(BackendContract):
    def make_backend(self) -> Backend:
        return TaggedBackend(BLUE)

    def test_the_lease_tells_cluster_and_port(self, tmp_path: Path) -> None:
        said = asyncio.run(self.make_backend().advertise(RecordingContext(tmp_path)))
        assert said == Advertisement(type="tagged", data={"Cluster": "blue", "Port": 9000})

    @pytest.mark.parametrize(("families", "mtu"), [((4,), 1460), ((6,), 1440), ((4, 6), 1440)])
    def test_the_mtu_leaves_room_for_the_tag_whatever_the_outer_family(
        self, tmp_path: Path, families: tuple[Family, ...], mtu: int
    ) -> None:
        backend, ctx, _ = asyncio.run(self.started(tmp_path, families))
        assert backend.mtu() == mtu
        assert [one.port for one in ctx.plane.listen] == [9000] * len(families)

    def test_the_encapsulation_is_told_the_cluster(self, tmp_path: Path) -> None:
        _, ctx, _ = asyncio.run(self.started(tmp_path))
        assert ctx.plane.encapsulation is not None
        assert ctx.plane.encapsulation.options == {"cluster": "blue"}

    def test_a_peer_is_sent_to_at_the_port_that_its_lease_tells(self, tmp_path: Path) -> None:
        ctx, peer, _ = self.reconciled(tmp_path, {"Cluster": "blue", "Port": 9001})
        assert ctx.plane.peers[peer.key].endpoints == (Endpoint("192.0.2.2", 9001),)

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            ({"Cluster": "green", "Port": 9000}, "peer-cluster-differs"),
            ({"Cluster": "blue", "Port": 0}, "peer-lease-unreadable"),
        ],
    )
    def test_a_peer_that_we_cannot_talk_to_is_left_out_with_the_reason(
        self, tmp_path: Path, data: dict[str, Any], code: str
    ) -> None:
        ctx, _, codes = self.reconciled(tmp_path, data)
        assert ctx.plane.peers == {}
        assert codes == [code]

    def reconciled(self, state_dir: Path, data: dict[str, Any]) -> tuple[RecordingContext, Peer, list[str]]:
        """What becomes of a single peer whose lease tells that."""

        async def run() -> tuple[RecordingContext, Peer, list[str]]:
            backend, ctx, peers = await self.started(state_dir)
            peer = msgspec.structs.replace(peers[0], data=data)
            report = await backend.reconcile([peer])
            return ctx, peer, [problem.code for problem in report.problems]

        return asyncio.run(run())
