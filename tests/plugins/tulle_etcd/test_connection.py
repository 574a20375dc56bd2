"""Endpoints that are dead, refuse, freeze or come back; TLS; nothing left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.store import Put, Store, Unavailable, absent
from tulle.testing.certificates import Certificates, make_certificates
from tulle.testing.etcd import EtcdServer
from tulle.testing.etcd_cluster import EtcdCluster
from tulle.testing.relay import Relay
from tulle_etcd.connection import CONNECT_S
from tulle_etcd.store import open_store

pytestmark = pytest.mark.etcd

CALL_LIMIT_S = 9.0  # "every call ends within a few seconds"
BACK_S = 5.0  # a store that is back is used again by then

LONG_S = 10.0
"""Ten times what it takes, for busy machines; gRPC's own back-off would take minutes."""


@asynccontextmanager
async def relays(count: int, server: EtcdServer) -> AsyncIterator[tuple[Store, Sequence[Relay]]]:
    """A store whose endpoints are `count` ways to one etcd."""
    lines = [Relay(server.client_port) for _ in range(count)]
    for line in lines:
        await line.accept()
    store = open_store({"etcd-endpoints": [f"http://127.0.0.1:{line.port}" for line in lines]})
    try:
        yield store, lines
    finally:
        await store.close()
        for line in lines:
            await line.refuse()


async def put(store: Store, key: str) -> None:
    await store.transact([], [Put(key, b"")])


async def works_within(store: Store, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                await put(store, "/works")
                return
            except Unavailable:
                await asyncio.sleep(0.1)


def test_an_endpoint_that_refuses_is_passed_over_even_by_a_write(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with relays(2, etcd) as (store, (first, second)):
            await first.refuse()
            start = time.monotonic()
            await put(store, "/a")
            assert time.monotonic() - start < LONG_S
            assert second.accepted == 1

    asyncio.run(body())


def test_an_endpoint_that_takes_connections_and_never_answers_is_passed_over(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with relays(2, etcd) as (store, (first, _)):
            first.freeze()
            start = time.monotonic()
            await put(store, "/a")
            assert time.monotonic() - start < 10 * CONNECT_S
            start = time.monotonic()
            await put(store, "/b")
            assert time.monotonic() - start < CONNECT_S, "the frozen endpoint was tried again"

    asyncio.run(body())


def test_a_read_goes_on_elsewhere_when_its_endpoint_freezes(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with relays(2, etcd) as (store, (first, second)):
            await put(store, "/a")
            first.freeze()
            found = await asyncio.wait_for(store.get("/a"), CALL_LIMIT_S)
            assert found is not None
            assert (first.accepted, second.accepted) == (1, 1)

    asyncio.run(body())


def test_a_write_whose_answer_is_lost_is_unavailable_and_happens_once(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with relays(2, etcd) as (store, (first, _)):
            await put(store, "/other")
            first.mute()
            with pytest.raises(Unavailable):
                await asyncio.wait_for(put(store, "/once"), CALL_LIMIT_S)
            found = await store.get("/once")
            assert found is not None
            assert found.version == 1

    asyncio.run(body())


def test_a_connection_that_was_cut_while_nobody_used_it_is_not_noticed_by_the_next_write(
    etcd: EtcdServer,
) -> None:
    async def body() -> None:
        async with relays(1, etcd) as (store, (line,)):
            for number in range(5):
                await put(store, f"/{number}")
                line.drop()
                await asyncio.sleep(0.2)  # for gRPC to notice
            assert line.accepted == 5

    asyncio.run(body())


def test_a_store_that_comes_back_is_used_again_soon(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with relays(1, etcd) as (store, (line,)):
            await put(store, "/a")
            await line.refuse()
            with pytest.raises(Unavailable):  # refused, or cut off in the middle
                await put(store, "/a")
            for _ in range(10):  # what makes gRPC's own back-off grow
                with pytest.raises(Unavailable, match=f"http://127.0.0.1:{line.port}: .*refused"):
                    await put(store, "/a")
            await line.accept()
            start = time.monotonic()
            await put(store, "/a")
            assert time.monotonic() - start < LONG_S

    asyncio.run(body())


def test_no_endpoint_at_all_names_each_with_its_reason(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with relays(2, etcd) as (store, (first, second)):
            await first.refuse()
            second.freeze()
            with pytest.raises(Unavailable) as caught:
                await asyncio.wait_for(store.health(), CALL_LIMIT_S)
            told = str(caught.value)
            assert f"http://127.0.0.1:{first.port}: " in told
            assert f"http://127.0.0.1:{second.port}: no answer in time" in told
            assert "check that etcd runs" in told

    asyncio.run(body())


def test_many_calls_at_once_share_one_connection(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with relays(2, etcd) as (store, (first, second)):
            await asyncio.gather(*(put(store, f"/{number}") for number in range(200)))
            assert (first.accepted, second.accepted) == (1, 0)

    asyncio.run(body())


def test_calls_under_way_end_when_the_store_is_closed(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with relays(1, etcd) as (store, (line,)):
            await put(store, "/a")
            line.freeze()
            calls = [asyncio.create_task(store.get("/a")), asyncio.create_task(put(store, "/b"))]
            await asyncio.sleep(0.1)
            await store.close()
            done, pending = await asyncio.wait(calls, timeout=1)
            assert not pending
            assert [type(call.exception()) for call in done] == [Unavailable, Unavailable]
            with pytest.raises(Unavailable, match="closed"):
                await store.get("/a")

    asyncio.run(body())


def test_a_call_that_is_cancelled_is_cancelled_and_harms_no_other(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with relays(1, etcd) as (store, (line,)):
            first = asyncio.create_task(store.get("/a"))
            second = asyncio.create_task(store.get("/a"))
            await asyncio.sleep(0)
            first.cancel()  # the one that is connecting for both
            assert await second is None
            assert first.cancelled()
            assert line.accepted == 1

    asyncio.run(body())


def test_after_kill_and_restart_the_store_works_again_soon_with_its_data(
    own_etcd: EtcdServer, connected: Any
) -> None:
    async def body() -> None:
        async with connected(own_etcd.endpoints) as store:
            await put(store, "/kept")
            await asyncio.to_thread(own_etcd.kill)
            with pytest.raises(Unavailable):
                await store.get("/kept")
            # start() must run here: etcd ends with the thread that started it.
            own_etcd.start()
            await works_within(store, BACK_S)
            assert await store.get("/kept") is not None

    asyncio.run(body())


def test_a_frozen_etcd_is_left_in_time_and_used_again_when_it_thaws(
    own_etcd: EtcdServer, connected: Any
) -> None:
    async def body() -> None:
        async with connected(own_etcd.endpoints) as store:
            await put(store, "/a")
            own_etcd.freeze()
            calls = [store.get("/a"), put(store, "/b"), store.health(), store.list("/")]
            outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), CALL_LIMIT_S)
            assert [type(outcome) for outcome in outcomes] == [Unavailable] * 4
            own_etcd.thaw()
            await works_within(store, BACK_S)

    asyncio.run(body())


def test_a_cluster_that_loses_a_member_goes_on(etcd_here: None, connected: Any) -> None:
    with EtcdCluster(3) as members:
        urls = members.endpoints

        async def body() -> None:
            async with connected(urls) as store:
                await store.transact([absent("/a")], [Put("/a", b"1")])
                assert (await store.health()).endpoint == urls[0]
                members[0].kill()
                await works_within(
                    store, 2 * BACK_S
                )  # it may have been the leader: there is an election first
                assert (await store.health()).endpoint in urls[1:]
                # Without a majority the last member says so at once, instead of keeping callers waiting.
                members[1].kill()
                with pytest.raises(Unavailable):
                    await asyncio.wait_for(put(store, "/b"), CALL_LIMIT_S)

        asyncio.run(body())


def test_ipv6_endpoints_are_endpoints(etcd_here: None, connected: Any) -> None:
    with EtcdServer(hosts=["::1"]) as server:

        async def body() -> None:
            async with connected(server.endpoints) as store:
                await put(store, "/a")
                assert store.location == f"http://[::1]:{server.client_port}"

        asyncio.run(body())


def tls(certificates: Certificates) -> dict[str, str]:
    return {
        "cafile": str(certificates.ca),
        "certfile": str(certificates.client),
        "keyfile": str(certificates.client_key),
    }


def test_tls_with_a_client_certificate_works(
    tls_etcd: EtcdServer, certificates: Certificates, connected: Any
) -> None:
    async def body() -> None:
        async with connected(tls_etcd.endpoints, **tls(certificates)) as store:
            await put(store, "/a")
            assert await store.get("/a") is not None

    asyncio.run(body())


def test_without_a_client_certificate_a_server_that_wants_one_is_unavailable(
    tls_etcd: EtcdServer, certificates: Certificates, connected: Any
) -> None:
    async def body() -> None:
        async with connected(tls_etcd.endpoints, cafile=str(certificates.ca)) as store:
            with pytest.raises(Unavailable, match="--etcd-certfile"):
                await put(store, "/a")

    asyncio.run(body())


def test_a_server_of_another_authority_is_not_spoken_to(
    tls_etcd: EtcdServer, tmp_path: Path, connected: Any
) -> None:
    other = make_certificates(tmp_path)

    async def body() -> None:
        async with connected(tls_etcd.endpoints, **tls(other)) as store:
            with pytest.raises(Unavailable, match=r"(?i)certificate.*--etcd-cafile"):
                await put(store, "/a")

    asyncio.run(body())


def test_renewed_certificate_files_are_used_at_the_next_connection(
    etcd_here: None, tmp_path: Path, connected: Any
) -> None:
    made = make_certificates(tmp_path)

    async def body() -> None:
        with EtcdServer(certificates=made) as server:
            async with connected(server.endpoints, **tls(made)) as store:
                await put(store, "/a")
                server.kill()
                make_certificates(tmp_path)
                server.start()
                await works_within(store, BACK_S)
                server.kill()
                made.ca.unlink()
                said = ""
                async with asyncio.timeout(BACK_S):
                    while (
                        "ca.pem cannot be read" not in said
                    ):  # the first call may still meet the dying connection
                        with pytest.raises(Unavailable) as found:
                            await put(store, "/a")
                        said = str(found.value)

    asyncio.run(body())


SCRIPT = """
import asyncio, os, sys, threading
from tulle_etcd.store import open_store
from tulle.contracts.store import Put, StoreError

async def main():
    store = open_store({"etcd-endpoints": sys.argv[2:]})
    watch = store.watch("/", after=0)
    try:
        await store.transact([], [Put("/a", b"1")])
        await anext(watch)
    except StoreError as error:
        print(type(error).__name__)
    if sys.argv[1] == "close":
        await watch.aclose()
        await store.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

asyncio.run(main())
if sys.argv[1] == "close":
    assert threading.active_count() == 1, threading.enumerate()
"""


@pytest.mark.parametrize("ending", ["close", "leave"])
@pytest.mark.parametrize("dead", [False, True])
def test_a_process_that_used_the_store_ends_without_a_word_of_grpc(
    etcd: EtcdServer, ending: str, dead: bool
) -> None:
    endpoint = "http://127.0.0.1:1" if dead else etcd.endpoint
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, ending, endpoint]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("Unavailable\n" if dead else "")
