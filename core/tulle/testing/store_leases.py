"""Contract of a store's leases: keys that live as long as somebody keeps them alive."""

from __future__ import annotations

import pytest

from tulle.contracts.store import NO_LEASE, LeaseGone, LeaseId, Put, Store
from tulle.testing.store_clients import (
    Clients,
    StoreTests,
    eventually,
    existing,
    head,
    keys,
    put,
    with_clients,
)

TTL_S = 3
"""Short, for stores whose time cannot be moved, and not below what etcd grants at least (2 s)."""
LONG_TTL_S = 3_600


class LeaseTests(StoreTests):
    async def _gone(self, store: Store, key: str) -> None:
        """The TTL passes, and the store deletes in its own time."""
        await self.expire(store, TTL_S + 0.5)

        async def is_gone() -> bool:
            return await store.get(key) is None

        await eventually(is_gone, f"{key!r} is deleted when its lease has expired")

    @with_clients
    async def test_a_key_carries_its_lease(self, clients: Clients) -> None:
        store = await clients.open()
        one, two = await store.grant(LONG_TTL_S), await store.grant(LONG_TTL_S)
        assert len({one, two, NO_LEASE}) == 3
        await put(store, "k", b"", one)
        assert (await existing(store, "k")).lease == one
        await put(store, "k", b"", two)
        assert (await existing(store, "k")).lease == two
        await store.revoke(one)
        assert (await existing(store, "k")).lease == two

    @with_clients
    async def test_expiry_deletes_the_keys_of_the_lease_and_watches_see_it(self, clients: Clients) -> None:
        store, other = await clients.open(), await clients.open()
        lease = await store.grant(TTL_S)
        await put(store, "stays", b"")
        await store.transact([], [Put("p/a", b"1", lease), Put("p/b", b"2", lease)])
        before = {key: await existing(store, key) for key in ("p/a", "p/b")}
        watcher = await clients.watch(other, "p/", await head(other))
        await watcher.batch()
        await self._gone(store, "p/a")
        await self._gone(store, "p/b")
        await put(store, "p/end")
        *deletions, _ = await watcher.until("p/end")
        assert {event.kv.key: event.previous for event in deletions} == before
        assert [event.kind for event in deletions] == ["delete", "delete"]
        assert await keys(store, "") == ["p/end", "stays"]

    @with_clients
    async def test_a_watch_sees_an_expiry_though_nobody_calls_the_store(self, clients: Clients) -> None:
        store = await clients.open()
        await put(store, "k", b"", await store.grant(TTL_S))
        watcher = await clients.watch(store, "k", await head(store))
        await watcher.batch()
        await self.expire(store, TTL_S + 0.5)
        (event,) = await watcher.until("k")
        assert event.kind == "delete"

    @with_clients
    async def test_an_expired_lease_is_gone_for_good(self, clients: Clients) -> None:
        store = await clients.open()
        lease = await store.grant(TTL_S)
        await put(store, "k", b"", lease)
        await self._gone(store, "k")
        with pytest.raises(LeaseGone):
            await store.keepalive(lease)
        with pytest.raises(LeaseGone):
            await put(store, "k", b"", lease)
        assert await store.remaining([lease]) == {}
        await store.revoke(lease)

    @with_clients
    async def test_keepalive_gives_the_whole_ttl_again(self, clients: Clients) -> None:
        store, other = await clients.open(), await clients.open()
        lease = await store.grant(TTL_S)
        await put(store, "k", b"", lease)
        for keeper in (store, other):
            await self.expire(store, TTL_S - 1)
            assert await keeper.keepalive(lease) >= TTL_S
        await self.expire(store, TTL_S - 1)
        assert await keys(other, "") == ["k"]
        await self._gone(store, "k")

    @with_clients
    async def test_a_put_without_a_lease_takes_the_key_off_it(self, clients: Clients) -> None:
        store = await clients.open()
        lease = await store.grant(TTL_S)
        await store.transact([], [Put("kept", b"", lease), Put("lost", b"", lease)])
        await put(store, "kept")
        assert (await existing(store, "kept")).lease == NO_LEASE
        await self._gone(store, "lost")
        assert await keys(store, "") == ["kept"]

    @with_clients
    async def test_revoking_deletes_the_keys_at_once_and_twice_does_no_harm(self, clients: Clients) -> None:
        store, other = await clients.open(), await clients.open()
        lease = await store.grant(LONG_TTL_S)
        await store.transact([], [Put("p/a", b"", lease), Put("p/b", b"", lease), Put("p/c", b"")])
        watcher = await clients.watch(other, "p/", await head(other))
        await store.revoke(lease)
        assert await keys(other, "") == ["p/c"]
        await store.revoke(lease)
        with pytest.raises(LeaseGone):
            await store.keepalive(lease)
        await put(store, "p/end")
        *deletions, _ = await watcher.until("p/end")
        assert sorted((event.kind, event.kv.key) for event in deletions) == [
            ("delete", "p/a"),
            ("delete", "p/b"),
        ]

    @with_clients
    async def test_a_deleted_key_that_comes_back_has_nothing_to_do_with_its_old_lease(
        self, clients: Clients
    ) -> None:
        store = await clients.open()
        lease = await store.grant(LONG_TTL_S)
        await put(store, "k", b"", lease)
        await store.revoke(lease)
        await put(store, "k")
        await store.revoke(lease)
        assert await keys(store, "") == ["k"]

    @with_clients
    async def test_remaining_counts_down_and_leaves_out_what_is_gone(self, clients: Clients) -> None:
        store = await clients.open()
        lease, revoked = await store.grant(LONG_TTL_S), await store.grant(LONG_TTL_S)
        await store.revoke(revoked)
        await self.expire(store, 1.5)
        left = await store.remaining([lease, revoked, LeaseId(0x6E6F6E65)])
        assert set(left) == {lease}
        # etcd tells whole seconds; a busy machine may let more pass than was asked for.
        assert LONG_TTL_S - 120 < left[lease] < LONG_TTL_S
        await store.keepalive(lease)
        assert (await store.remaining([lease]))[lease] >= LONG_TTL_S - 1
        assert await store.remaining([]) == {}

    @with_clients
    async def test_a_lease_outlives_the_client_that_asked_for_it(self, clients: Clients) -> None:
        store, other = await clients.open(), await clients.open()
        lease = await store.grant(LONG_TTL_S)
        await put(store, "k", b"", lease)
        await store.close()
        assert (await existing(other, "k")).lease == lease
        assert await other.keepalive(lease) >= LONG_TTL_S
