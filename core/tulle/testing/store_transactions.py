"""Contract of a store's transactions."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from typing import Any, Literal

import pytest

from tulle.contracts.store import (
    Compare,
    Delete,
    Get,
    LeaseGone,
    LeaseId,
    Put,
    Store,
    StoreError,
    absent,
    unchanged,
)
from tulle.testing.store_clients import Clients, StoreTests, existing, head, keys, put, with_clients

Field = Literal["version", "modified", "created", "lease"]
Sign = Literal["==", "!=", "<", ">"]

_FIELDS: tuple[Field, ...] = ("version", "modified", "created", "lease")
_SIGNS: dict[Sign, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_UNKNOWN_LEASE = LeaseId(0x6E6F6E65)


class TransactionTests(StoreTests):
    @pytest.mark.parametrize("sign", _SIGNS)
    @with_clients
    async def test_numbers_compare_as_numbers(self, clients: Clients, sign: Sign) -> None:
        store = await clients.open()
        lease = await store.grant(60)
        for _ in range(3):
            await put(store, "k", b"v", lease)
        kv = await existing(store, "k")
        for field in _FIELDS:
            have = getattr(kv, field)
            for want in (have - 1, have, have + 1):
                result = await store.transact([Compare("k", field, want, sign)], [])
                assert result.succeeded == _SIGNS[sign](have, want), f"{field} {have} {sign} {want}"

    @pytest.mark.parametrize("sign", _SIGNS)
    @with_clients
    async def test_values_compare_as_bytes(self, clients: Clients, sign: Sign) -> None:
        store = await clients.open()
        await put(store, "k", b"m\xff")
        for want in (b"", b"m", b"m\xfe", b"m\xff", b"m\xff\0", b"n"):
            result = await store.transact([Compare("k", "value", want, sign)], [])
            assert result.succeeded == _SIGNS[sign](b"m\xff", want), f"{sign} {want!r}"

    @pytest.mark.parametrize("sign", _SIGNS)
    @with_clients
    async def test_the_numbers_of_an_absent_key_are_0(self, clients: Clients, sign: Sign) -> None:
        store = await clients.open()
        await put(store, "gone")
        await store.transact([], [Delete("gone")])
        for key in ("gone", "never"):
            for field in _FIELDS:
                for want in (0, 1):
                    result = await store.transact([Compare(key, field, want, sign)], [])
                    assert result.succeeded == _SIGNS[sign](0, want), f"{key} {field} {sign} {want}"

    @pytest.mark.parametrize("sign", _SIGNS)
    @with_clients
    async def test_the_value_of_an_absent_key_satisfies_no_comparison(
        self, clients: Clients, sign: Sign
    ) -> None:
        store = await clients.open()
        for want in (b"", b"x"):
            assert not (await store.transact([Compare("never", "value", want, sign)], [])).succeeded

    @with_clients
    async def test_all_conditions_must_hold_and_otherwise_the_other_branch_runs(
        self, clients: Clients
    ) -> None:
        store = await clients.open()
        await put(store, "k", b"1")
        then, otherwise = [Put("k", b"then")], [Put("k", b"otherwise")]
        held = [Compare("k", "version", 1), absent("nobody")]
        assert not (await store.transact([*held, absent("k")], then, otherwise)).succeeded
        assert (await existing(store, "k")).value == b"otherwise"
        held = [Compare("k", "version", 2), absent("nobody")]
        assert (await store.transact(held, then, otherwise)).succeeded
        assert (await existing(store, "k")).value == b"then"

    @with_clients
    async def test_a_branch_reads_what_is_there_when_it_runs(self, clients: Clients) -> None:
        store = await clients.open()
        await put(store, "k", b"1")
        before = await existing(store, "k")
        result = await store.transact([absent("k")], [], [Get("k"), Get("nobody")])
        assert not result.succeeded
        assert dict(result.found) == {"k": before, "nobody": None}
        result = await store.transact([], [Put("k", b"2"), Get("k")])
        assert result.found["k"] == await store.get("k") != before

    @with_clients
    async def test_a_transaction_is_one_revision_however_much_it_writes(self, clients: Clients) -> None:
        store = await clients.open()
        before = await put(store, "c")
        result = await store.transact([], [Put("a", b""), Put("b", b""), Delete("c")])
        assert before != result.revision == await head(store)
        assert {(await existing(store, key)).modified for key in ("a", "b")} == {result.revision}

    @with_clients
    async def test_what_changes_nothing_makes_no_revision(self, clients: Clients) -> None:
        store = await clients.open()
        before = await put(store, "k")
        for ops in ([], [Get("k")], [Delete("nobody")]):
            assert (await store.transact([], ops)).revision == before
        assert (await store.transact([absent("k")], [Put("k", b"x")])).revision == before
        assert await head(store) == before

    @with_clients
    async def test_two_writers_lose_no_update(self, clients: Clients) -> None:
        rounds = 40

        async def count(store: Store) -> None:
            for _ in range(rounds):
                while True:
                    old = await store.get("a")
                    seen = unchanged("a", old.modified) if old is not None else absent("a")
                    value = b"%d" % (int(old.value) + 1 if old is not None else 1)
                    if (await store.transact([seen], [Put("a", value), Put("b", value)])).succeeded:
                        break

        await asyncio.gather(*[count(await clients.open()) for _ in range(2)])
        a, b = await existing(await clients.open(), "a"), await existing(await clients.open(), "b")
        assert (a.value, b.value) == (b"%d" % (2 * rounds),) * 2
        assert (a.version, b.version) == (2 * rounds,) * 2

    @with_clients
    async def test_of_many_that_create_a_key_one_wins(self, clients: Clients) -> None:
        stores = [await clients.open() for _ in range(6)]
        results = await asyncio.gather(
            *[
                store.transact([absent("k")], [Put("k", b"%d" % number)], [Get("k")])
                for number, store in enumerate(stores)
            ]
        )
        (winner,) = [number for number, result in enumerate(results) if result.succeeded]
        kept = await existing(stores[0], "k")
        assert (kept.value, kept.version) == (b"%d" % winner, 1)
        assert all(result.found["k"] == kept for result in results if not result.succeeded)

    @with_clients
    async def test_an_unknown_lease_stops_the_whole_transaction(self, clients: Clients) -> None:
        store = await clients.open()
        before = await put(store, "k", b"1")
        with pytest.raises(LeaseGone):
            await store.transact([], [Put("a", b"2"), Put("b", b"2", _UNKNOWN_LEASE), Delete("k")])
        assert (await keys(store, ""), await head(store)) == (["k"], before)
        assert (await store.transact([], [], [Put("k", b"2", _UNKNOWN_LEASE)])).succeeded

    @with_clients
    async def test_writing_a_key_twice_in_one_branch_is_refused(self, clients: Clients) -> None:
        store = await clients.open()
        with pytest.raises((ValueError, StoreError)):
            await store.transact([], [Put("k", b"1"), Put("k", b"2")])
        assert await store.get("k") is None
