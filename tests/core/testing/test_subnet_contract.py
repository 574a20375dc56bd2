"""The subnet managers' contract, over the one that keeps leases in a store."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tulle.contracts.store import Put
from tulle.contracts.subnet import SubnetManager
from tulle.lease.manager import LeaseManager
from tulle.store.clock import SystemClock
from tulle.testing.subnet_contract import SubnetManagerContract
from tulle_memory.store import MemoryWorld

PREFIX = "/coreos.com/network"


class TestLeaseManager(SubnetManagerContract):
    @pytest.fixture(autouse=True)
    def _world(self) -> None:
        self.world = MemoryWorld()

    async def write_config(self, text: str) -> None:
        store = self.world.client()
        await store.transact([], [Put(f"{PREFIX}/config", text.encode())])
        await store.close()

    @asynccontextmanager
    async def manager(self, node: str) -> AsyncIterator[SubnetManager]:
        store = self.world.client()
        try:
            yield LeaseManager(
                store,
                PREFIX,
                node=node,
                node_id=f"{node:0>32}",
                boot_id="one boot",
                clock=SystemClock(),
                rng=random.Random(node),
            )
        finally:
            await store.close()
