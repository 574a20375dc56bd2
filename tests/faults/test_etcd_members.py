"""A cluster of three etcds, with TLS and users, whose members die, freeze and come back under a client that keeps a
record and watches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tulle.contracts.store import Put, Unavailable, absent
from tulle.testing.etcd_cluster import EtcdCluster
from tulle.testing.faults.processes import frozen
from tulle.testing.faults.storeclient import PREFIX, StoreClient
from tulle_etcd.store import EtcdStore, open_store

pytestmark = pytest.mark.etcd

BACK_S = 5.0
"""A store that is back is used again by then."""
NOTICED_S = 15.0
"""By then a frozen member is noticed (contracts.store.Store.watch)."""
TTL_S = 60
Settings = Callable[[list[str]], dict[str, Any]]


def with_client(
    cluster: EtcdCluster, settings: Settings, body: Callable[[StoreClient, EtcdStore], Awaitable[None]]
) -> None:
    """A client that prefers the leader, and a store through which others write."""

    async def run() -> None:
        cluster.leader().etcdctl("del", "--prefix", PREFIX)
        leader = cluster.leader().endpoint
        endpoints = sorted(cluster.endpoints, key=lambda endpoint: endpoint != leader)
        other = open_store(settings(endpoints))
        async with asyncio.timeout(60), StoreClient(open_store(settings(endpoints)), "n1", ttl_s=TTL_S) as n1:
            await n1.until(lambda report: report.connected and "n1" in report.nodes, BACK_S)
            try:
                await body(n1, other)
            finally:
                await other.close()
        assert not n1.report().lost

    asyncio.run(run())


async def write(store: EtcdStore, name: str, within_s: float = BACK_S) -> None:
    """As somebody else who does not give up either; what may have happened is not done twice."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                await store.transact([absent(PREFIX + name)], [Put(PREFIX + name, b"")])
                return
            except Unavailable:
                await asyncio.sleep(0.1)


def test_a_killed_leader_costs_an_election_and_nothing_else(
    cluster: EtcdCluster, settings: Settings, say: Callable[[str, object], None]
) -> None:
    async def body(n1: StoreClient, other: EtcdStore) -> None:
        leader = cluster.leader()
        leader.kill()
        try:
            await write(other, "while-it-was-dead")
            took = await n1.until(
                lambda report: "while-it-was-dead" in report.nodes and report.renewed_s < 1.5, BACK_S
            )
            say("seconds until watch and record stand again", f"{took:.2f}")
            assert n1.report().relists == 0
        finally:
            cluster.start([leader])

    with_client(cluster, settings, body)


def test_losing_a_minority_and_then_the_majority_is_survived_and_said_in_time(
    cluster: EtcdCluster, settings: Settings, say: Callable[[str, object], None]
) -> None:
    async def body(n1: StoreClient, other: EtcdStore) -> None:
        first, second, third = cluster.leader(), *cluster.followers()
        first.kill()
        await write(other, "of-two")
        await n1.until(lambda report: "of-two" in report.nodes, BACK_S)
        second.kill()
        # The last one is alive, and knows that it is alone: it must say so, and the watch must not stay silent.
        with pytest.raises(Unavailable):
            await asyncio.wait_for(other.transact([], [Put(PREFIX + "of-one", b"")]), BACK_S * 2)
        await n1.until(lambda report: not report.connected, NOTICED_S)
        assert {"n1", "of-two"} <= set(n1.report().nodes), "what is known stays in use"
        cluster.start([first, second])
        took = await n1.until(lambda report: report.connected and report.renewed_s < 1.5, BACK_S)
        say("seconds from the majority's return to use", f"{took:.2f}")
        await write(other, "of-three")
        await n1.until(lambda report: "of-three" in report.nodes, BACK_S)
        assert third.running

    with_client(cluster, settings, body)


def test_a_member_that_freezes_under_a_watch_is_left_for_another(
    cluster: EtcdCluster, settings: Settings, say: Callable[[str, object], None]
) -> None:
    async def body(n1: StoreClient, other: EtcdStore) -> None:
        with frozen(cluster.leader().pid):
            await write(other, "while-frozen", within_s=NOTICED_S)
            took = await n1.until(lambda report: "while-frozen" in report.nodes, NOTICED_S)
            say("seconds until the watch stands elsewhere", f"{took:.2f}")
            await n1.until(lambda report: report.renewed_s < 1.5, BACK_S)
        await write(other, "after-it-thawed")
        await n1.until(lambda report: "after-it-thawed" in report.nodes, BACK_S)

    with_client(cluster, settings, body)


def test_tokens_that_expire_are_renewed_without_a_word(
    cluster: EtcdCluster, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(n1: StoreClient, other: EtcdStore) -> None:
        caplog.clear()
        await other.health()
        await asyncio.sleep(2.5)  # etcd drops a token of 1 s at its next look, once a second
        await other.transact([], [Put(f"{PREFIX}token", b"")])
        await n1.until(lambda report: "token" in report.nodes and report.renewed_s < 1.5, BACK_S)
        assert n1.report().reconnects == 0
        assert [record.getMessage() for record in caplog.records] == []

    with_client(cluster, settings, body)


def test_defragmentation_of_every_member_in_turn_is_survived(
    cluster: EtcdCluster, settings: Settings
) -> None:
    async def body(n1: StoreClient, other: EtcdStore) -> None:
        cluster.compact()
        await asyncio.to_thread(cluster.defragment)
        await write(other, "defragmented")
        await n1.until(lambda report: "defragmented" in report.nodes and report.renewed_s < 1.5, BACK_S)

    with_client(cluster, settings, body)
