"""Users, passwords and tokens against an etcd whose authentication is on. Its tokens end after a second."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.store import Denied, Put, Store
from tulle.testing.etcd import EtcdServer

pytestmark = pytest.mark.etcd

USER = {"username": "tulle", "password": "geheim"}
PREFIX = "/coreos.com/network/"
EXPIRED_S = 3.5  # etcd looks for expired tokens once a second


@pytest.fixture
def auth_etcd(own_etcd: EtcdServer) -> EtcdServer:
    own_etcd.enable_auth("root-password", [("tulle", "geheim", PREFIX)])
    return own_etcd


def logins(server: EtcdServer) -> int:
    """How often etcd was asked for a token."""
    name = 'grpc_server_handled_total{grpc_code="OK",grpc_method="Authenticate"'
    return sum(
        int(float(line.split()[-1])) for line in server.metrics().splitlines() if line.startswith(name)
    )


async def put(store: Store, key: str = "a") -> None:
    await store.transact([], [Put(PREFIX + key, b"")])


def test_a_user_reads_and_writes_its_own_keys_and_no_others(auth_etcd: EtcdServer, connected: Any) -> None:
    async def body() -> None:
        async with connected(auth_etcd.endpoints, **USER) as store:
            await put(store)
            assert await store.get(PREFIX + "a") is not None
            with pytest.raises(Denied, match="/other"):
                await store.get("/other")
            with pytest.raises(Denied, match="/other/"):
                await anext(store.watch("/other/", after=(await store.list(PREFIX)).revision))
            await put(store, "still works")

    asyncio.run(body())


def test_a_token_that_has_expired_is_renewed_once_for_all_calls(
    auth_etcd: EtcdServer, connected: Any
) -> None:
    async def body() -> None:
        async with connected(auth_etcd.endpoints, **USER) as store:
            await put(store)
            before = logins(auth_etcd)
            await asyncio.sleep(EXPIRED_S)
            await asyncio.gather(*(put(store, str(number)) for number in range(50)))
            assert logins(auth_etcd) == before + 1

    asyncio.run(body())


def test_a_watch_that_begins_with_an_expired_token_stands(auth_etcd: EtcdServer, connected: Any) -> None:
    async def body() -> None:
        async with connected(auth_etcd.endpoints, **USER) as store:
            start = (await store.list(PREFIX)).revision
            await asyncio.sleep(EXPIRED_S)
            async with aclosing(store.watch(PREFIX, after=start)) as watch:
                assert (await anext(watch)).synced
                await put(store)
                assert [event.kv.key for event in (await anext(watch)).events] == [PREFIX + "a"]

    asyncio.run(body())


def test_a_restart_of_etcd_goes_unnoticed_whether_it_keeps_tokens_or_not(
    auth_etcd: EtcdServer, connected: Any
) -> None:
    async def body() -> None:
        async with connected(auth_etcd.endpoints, **USER) as store:
            lease = await store.grant(60)
            auth_etcd.restart()
            await put(store)
            assert await store.keepalive(lease) == 60
            assert set(await store.remaining([lease])) == {lease}

    asyncio.run(body())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (USER | {"password": "falsch"}, "wrong user name or password"),
        (USER | {"username": "nobody"}, "wrong user name or password"),
        ({}, "etcd wants a user: give --etcd-username"),
    ],
)
def test_wrong_or_missing_credentials_are_denied_with_advice(
    auth_etcd: EtcdServer, connected: Any, options: dict[str, str], says: str
) -> None:
    async def body() -> None:
        async with connected(auth_etcd.endpoints, **options) as store:
            for call in (
                store.get(PREFIX + "a"),
                put(store),
                anext(store.watch(PREFIX, after=1)),
            ):
                with pytest.raises(Denied) as caught:
                    await call
                assert "falsch" not in str(caught.value)
            with pytest.raises(Denied, match=says):
                await store.get(PREFIX + "a")

    asyncio.run(body())


def test_a_changed_password_file_is_used_without_a_restart(
    auth_etcd: EtcdServer, connected: Any, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("geheim\n")

    def change(password: str) -> None:  # etcd then forgets the user's tokens
        auth_etcd.etcdctl("user", "passwd", "tulle", "--interactive=false", input=f"{password}\n".encode())

    async def body() -> None:
        async with connected(auth_etcd.endpoints, username="tulle", password_file=str(file)) as store:
            await put(store)
            change("neu")
            file.write_text("neu\n")
            await put(store)
            change("noch neuer")
            file.unlink()
            with pytest.raises(Denied, match=r"etcd-password-file: .* cannot be read"):
                await put(store)

    asyncio.run(body())


def test_a_user_is_no_hindrance_where_authentication_is_off_and_is_used_once_it_is_on(
    own_etcd: EtcdServer, connected: Any
) -> None:
    async def body() -> None:
        async with connected(own_etcd.endpoints, **USER) as store:
            await put(store)
            own_etcd.enable_auth("root-password", [("tulle", "geheim", PREFIX)])
            await put(store)
            with pytest.raises(Denied):
                await store.get("/other")

    asyncio.run(body())
