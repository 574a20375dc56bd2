"""The alloc backend keeps the contract of backends, and touches nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tulle.contracts.backend import Advertisement, Family, Owned
from tulle.testing.backend_contract import FAMILIES, UNDERLAY_MTU, BackendContract, RecordingContext
from tulle_alloc.backend import AllocBackend


class TestAllocBackend(BackendContract):
    backend: AllocBackend

    def make_backend(self) -> AllocBackend:
        self.backend = AllocBackend()
        return self.backend

    async def served(self, ctx: RecordingContext) -> set[str]:
        return set(self.backend.usable)

    def test_the_lease_names_no_backend_as_flannels_does_not(self, tmp_path: Path) -> None:
        found = asyncio.run(self.make_backend().advertise(RecordingContext(tmp_path)))
        assert found == Advertisement(type="")

    @pytest.mark.parametrize("families", FAMILIES)
    def test_pods_have_the_underlays_mtu_and_nothing_is_made(
        self, tmp_path: Path, families: Sequence[Family]
    ) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path, families)
            await backend.reconcile(peers)
            assert backend.mtu() == UNDERLAY_MTU
            assert (ctx.plane.device, ctx.plane.listen) == (None, ())
            assert backend.owned() == Owned()
            assert backend.status() == {"mtu": UNDERLAY_MTU, "usable_peers": 3}

        asyncio.run(run())

    def test_a_lease_of_flannels_without_an_address_is_named_by_its_key(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, _, peers = await self.started(tmp_path)
            lost = type(peers[0])(
                key="10.42.9.0-24", node="10.42.9.0-24", prefixes=(), endpoints=(), backend=""
            )
            (problem,) = (await backend.reconcile([lost, *peers])).problems
            assert (problem.code, problem.subject) == ("peer-no-endpoint", "10.42.9.0-24")
            assert "tulle leases" in problem.message

        asyncio.run(run())
