"""The etcd store against a real etcd: the contract, and what is etcd's own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tulle.contracts.store import (
    Get,
    LeaseId,
    Put,
    Revision,
    Store,
    StoreError,
    Unavailable,
)
from tulle.testing.etcd import EtcdServer
from tulle.testing.store_contract import StoreContract
from tulle_etcd.connection import MAX_ANSWER_BYTES
from tulle_etcd.store import PAGE_KEYS, open_store

pytestmark = pytest.mark.etcd

OPS = 100  # etcd takes 128 in a transaction


class TestEtcdStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, etcd: EtcdServer) -> None:
        self.etcd = etcd

    async def open_store(self) -> Store:
        return open_store({"etcd-endpoints": self.etcd.endpoints})

    async def compact(self, store: Store, revision: Revision) -> None:
        await asyncio.to_thread(self.etcd.compact, revision)


async def fill(store: Store, keys: list[str], value: bytes, at_once: int = OPS) -> None:
    for start in range(0, len(keys), at_once):
        await store.transact([], [Put(key, value) for key in keys[start : start + at_once]])


def test_twenty_thousand_leases_are_listed_in_under_a_second(etcd: EtcdServer, connected: Any) -> None:
    wanted = [f"/coreos.com/network/subnets/10.{i >> 8}.{i & 255}.0-24" for i in range(20_000)]
    value = b'{"PublicIP":"192.168.1.17","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}}'

    async def body() -> tuple[float, list[str]]:
        async with connected(etcd.endpoints) as store:
            await fill(store, wanted, value)
            took = []
            for _ in range(3):
                start = time.monotonic()
                listing = await store.list("/coreos.com/network/subnets/")
                took.append(time.monotonic() - start)
            return min(took), [kv.key for kv in listing.items]

    seconds, keys = asyncio.run(body())
    assert keys == sorted(wanted)
    assert seconds < 1


def test_a_listing_larger_than_one_answer_may_be_comes_whole(etcd: EtcdServer, connected: Any) -> None:
    value = bytes(1_200_000)
    count = MAX_ANSWER_BYTES // len(value) + 2

    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            await fill(store, [f"/large/{number:02}" for number in range(count)], value, at_once=1)
            items = (await store.list("/large/")).items
            assert [len(kv.value) for kv in items] == [len(value)] * count
            assert {len(kv.value) for kv in (await store.list("/large/", keys_only=True)).items} == {0}

    asyncio.run(body())


def test_pages_of_a_listing_are_of_one_revision_while_others_write(etcd: EtcdServer, connected: Any) -> None:
    keys = [f"/pages/{number:05}" for number in range(2 * PAGE_KEYS + 1)]

    async def rewrite(store: Store, number: int) -> None:
        # Each transaction writes a key of each page: a listing of several revisions shows several numbers.
        await store.transact([], [Put(key, b"%d" % number) for key in (keys[0], keys[PAGE_KEYS], keys[-1])])

    async def body() -> None:
        async with connected(etcd.endpoints) as reader, connected(etcd.endpoints) as writer:
            await fill(writer, keys, b"0")
            listing = asyncio.create_task(reader.list("/pages/"))
            number = 0
            while not listing.done():
                number += 1
                await rewrite(writer, number)
            items = (await listing).items
            assert number > 1, "nothing was written meanwhile"
            assert [kv.key for kv in items] == keys
            assert len({items[0].value, items[PAGE_KEYS].value, items[-1].value}) == 1

    asyncio.run(body())


def test_keys_that_are_not_text_are_listed_and_deleted_like_others(etcd: EtcdServer, connected: Any) -> None:
    etcd.etcdctl("put", "--", "/odd/\udcff", "foreign")

    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            (kv,) = (await store.list("/odd/")).items
            assert await store.get(kv.key) == kv

    asyncio.run(body())


def test_what_is_left_of_many_leases_is_asked_at_once(etcd: EtcdServer, connected: Any) -> None:
    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            granted = [await store.grant(100) for _ in range(150)]
            await store.revoke(granted[0])
            left = await store.remaining([*granted, LeaseId(12345)])
            assert set(left) == set(granted[1:])
            assert all(90 < seconds <= 100 for seconds in left.values())
            await asyncio.gather(*map(store.revoke, granted))

    asyncio.run(body())


def test_a_request_that_etcd_refuses_is_told_as_it_is(etcd: EtcdServer, connected: Any) -> None:
    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            with pytest.raises(StoreError, match="too large") as caught:
                await store.transact([], [Put("/too-large", bytes(2_000_000))])
            assert not isinstance(caught.value, Unavailable)
            with pytest.raises(StoreError, match="too many operations"):
                await store.transact([], [Get(f"/{number}") for number in range(129)])

    asyncio.run(body())


def test_health_names_endpoint_version_and_latency(etcd: EtcdServer, connected: Any) -> None:
    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            health = await store.health()
            assert health.endpoint == etcd.endpoint
            assert health.version.split(".")[0] == "3"
            assert 0 < health.latency_s < 5

    asyncio.run(body())
