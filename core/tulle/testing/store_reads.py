"""Contract of a store's get, list, health and close."""

from __future__ import annotations

import asyncio

import pytest

from tulle.contracts.store import NO_LEASE, Compacted, Delete, KeyValue, Listing, Op, Put, StoreError
from tulle.testing.store_clients import Clients, StoreTests, existing, keys, put, transact_all, with_clients

MANY = 5_200
"""More keys than a store sends in one page."""

_EDGES = ["a", "a/b", "a/b/", "a/b/c", "a/bc", "a/c", "a0", "b", "é", "ÿ", "ÿa", "Ā", "\ud7ff", "\ue000"]
"""Where prefixes that are compared as text, as bytes or by a wrong successor go astray. U+00FF, and around the
gap that UTF-16 leaves; no byte of UTF-8 is 0xff, but text may hold the code point."""
_LAST_KEYS = ["\uffff", "\uffffz", "\U0010ffff", "\U0010ffff\U0010ffff"]


class ReadTests(StoreTests):
    @with_clients
    async def test_a_key_that_was_never_written_is_none(self, clients: Clients) -> None:
        store = await clients.open()
        assert await store.get("nobody") is None
        assert list((await store.list("")).items) == []

    @with_clients
    async def test_a_key_tells_when_it_was_made_and_changed_and_how_often(self, clients: Clients) -> None:
        store = await clients.open()
        first = await put(store, "k", b"1")
        assert await store.get("k") == KeyValue("k", b"1", first, first, 1, NO_LEASE)
        await put(store, "other")
        second = await put(store, "k", b"2")
        assert await store.get("k") == KeyValue("k", b"2", first, second, 2, NO_LEASE)

    @with_clients
    async def test_a_key_that_is_made_again_begins_anew(self, clients: Clients) -> None:
        store = await clients.open()
        await put(store, "k", b"1")
        await put(store, "k", b"2")
        await store.transact([], [Delete("k")])
        assert await store.get("k") is None
        again = await put(store, "k", b"3")
        assert await store.get("k") == KeyValue("k", b"3", again, again, 1, NO_LEASE)

    @pytest.mark.parametrize("value", [b"", b"\0", bytes(range(256)), b"x" * 100_000], ids=len)
    @with_clients
    async def test_a_value_is_any_bytes(self, clients: Clients, value: bytes) -> None:
        store = await clients.open()
        await put(store, "k", value)
        assert (await existing(store, "k")).value == value

    @with_clients
    async def test_another_client_sees_a_write_as_soon_as_it_is_acknowledged(self, clients: Clients) -> None:
        writer, reader = await clients.open(), await clients.open()
        for number in range(20):
            await put(writer, "k", b"%d" % number)
            assert (await existing(reader, "k")).value == b"%d" % number

    @with_clients
    async def test_a_listing_holds_the_keys_of_its_prefix_and_no_others(self, clients: Clients) -> None:
        store = await clients.open()
        written = _EDGES + _LAST_KEYS
        await transact_all(store, [Put(key, b"v") for key in written])
        for prefix in ["", *written, "a/", "\U0010ffff" * 3, "zzz"]:
            expected = sorted(key for key in written if key.startswith(prefix))
            assert await keys(store, prefix) == expected, f"prefix {prefix!r}"

    @with_clients
    async def test_a_listing_of_an_old_revision_shows_what_was_there(self, clients: Clients) -> None:
        store = await clients.open()
        shots: list[Listing] = []
        steps: list[list[Op]] = [
            [Put("p/a", b"1"), Put("p/b", b"1"), Put("q", b"1")],
            [Put("p/a", b"2")],
            [Delete("p/b"), Put("p/c", b"3")],
            [Put("p/b", b"4")],
            [Delete("p/a"), Delete("p/b"), Delete("p/c")],
        ]
        for ops in steps:
            await store.transact([], ops)
            shots.append(await store.list("p/"))
        assert [len(shot.items) for shot in shots] == [2, 2, 2, 3, 0]
        for shot in shots:
            old = await store.list("p/", revision=shot.revision)
            assert (list(old.items), old.revision) == (list(shot.items), shot.revision)

    @with_clients
    async def test_a_listing_of_a_compacted_revision_is_refused_and_younger_ones_work(
        self, clients: Clients
    ) -> None:
        store = await clients.open()
        revisions = [await put(store, "k", b"%d" % number) for number in range(6)]
        await self.compact(store, revisions[3])
        with pytest.raises(Compacted):
            await store.list("", revision=revisions[1])
        for number in (3, 4, 5):
            (kv,) = (await store.list("", revision=revisions[number])).items
            assert kv.value == b"%d" % number
        assert (await existing(store, "k")).value == b"5"

    @with_clients
    async def test_a_listing_of_keys_only_has_everything_but_the_values(self, clients: Clients) -> None:
        store = await clients.open()
        await put(store, "p/a", b"1")
        first = await store.list("p/", keys_only=True)
        await put(store, "p/a", b"2")
        for revision in (None, first.revision):
            whole = await store.list("p/", revision=revision)
            bare = await store.list("p/", revision=revision, keys_only=True)
            assert [kv.value for kv in bare.items] == [b""]
            numbers = [(kv.key, kv.created, kv.modified, kv.version, kv.lease) for kv in bare.items]
            expected = [(kv.key, kv.created, kv.modified, kv.version, kv.lease) for kv in whole.items]
            assert numbers == expected

    @with_clients
    async def test_a_long_listing_is_of_one_revision_while_others_write(self, clients: Clients) -> None:
        reader, writer = await clients.open(), await clients.open()
        await transact_all(writer, [Put(f"p/{number:05}", b"0") for number in range(MANY)])
        done = asyncio.Event()

        async def write_both_ends() -> int:
            count = 0
            while not done.is_set():
                count += 1
                value = b"%d" % count
                await writer.transact([], [Put("p/00000", value), Put(f"p/{MANY - 1:05}", value)])
            return count

        writing = asyncio.create_task(write_both_ends())
        try:
            for _ in range(5):
                items = (await reader.list("p/")).items
                assert [kv.key for kv in items] == [f"p/{number:05}" for number in range(MANY)]
                assert items[0].value == items[-1].value
        finally:
            done.set()
            assert await writing > 1

    @with_clients
    async def test_a_healthy_store_says_so(self, clients: Clients) -> None:
        store = await clients.open()
        health = await store.health()
        assert health.endpoint
        assert health.version
        assert 0 <= health.latency_s < 5

    @with_clients
    async def test_a_store_says_what_and_where_it_is(self, clients: Clients) -> None:
        store = await clients.open()
        assert store.name == store.name.lower() != ""
        assert store.location
        assert isinstance(store.single_machine, bool)

    @with_clients
    async def test_a_closed_client_refuses_calls_and_leaves_others_alone(self, clients: Clients) -> None:
        closed, other = await clients.open(), await clients.open()
        await put(closed, "k", b"1")
        await closed.close()
        await closed.close()
        with pytest.raises(StoreError):
            await closed.get("k")
        assert (await existing(other, "k")).value == b"1"
