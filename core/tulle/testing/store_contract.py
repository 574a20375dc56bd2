"""The contract of `contracts.store.Store` as tests. A store proves itself by inheriting `StoreContract`:

    class TestMyStore(StoreContract):
        async def open_store(self):
            return MyStore(self.server.address)

        async def compact(self, store, revision):
            await self.server.compact(revision)

pytest makes a new instance for each test, so a fixture may put the test's own, empty store on `self`.
"""

from __future__ import annotations

import asyncio

import pytest

from tulle.contracts.store import Revision, Store

_PARTS = ("leases", "model", "reads", "transactions", "watches")
# Before they are imported, so that a failed assert shows its values.
pytest.register_assert_rewrite(*[f"tulle.testing.store_{part}" for part in _PARTS])

from tulle.testing.store_leases import LeaseTests  # noqa: E402
from tulle.testing.store_model import ModelTests  # noqa: E402
from tulle.testing.store_reads import ReadTests  # noqa: E402
from tulle.testing.store_transactions import TransactionTests  # noqa: E402
from tulle.testing.store_watches import WatchTests  # noqa: E402


class StoreContract(ReadTests, TransactionTests, WatchTests, LeaseTests, ModelTests):
    """See the module. Two methods to override, and a third where the store can be told what time it is."""

    async def open_store(self) -> Store:
        """A further client of this test's store. At the test's first call the store holds no keys; its revision
        may be anything. The contract closes what it opens."""
        raise NotImplementedError(f"{type(self).__name__} must override open_store")

    async def compact(self, store: Store, revision: Revision) -> None:
        """Forget the history before `revision`; a watch after it, and a listing of it, must still work."""
        raise NotImplementedError(f"{type(self).__name__} must override compact")

    async def expire(self, store: Store, seconds: float) -> None:
        """Let so much time pass for the leases. Override it where the clock is virtual."""
        await asyncio.sleep(seconds)
