"""A real etcd for these tests: one for all that leave it as it was, one of its own for each that does not."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from tulle.testing.certificates import Certificates, make_certificates
from tulle.testing.etcd import FETCH, EtcdServer, find_etcd
from tulle_etcd.store import EtcdStore, open_store

QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
"""Half the usual start-up time, and leases of 1 s."""


@pytest.fixture(scope="session")
def etcd_here() -> None:
    """Fails, and does not skip, where etcd can be had."""
    if find_etcd() is None:
        if shutil.which("apt-get") is None:
            pytest.skip(f"no etcd, and no apt to get it with: {FETCH}")
        pytest.fail(f"these tests need a real etcd: {FETCH}")


@pytest.fixture(scope="session")
def shared_etcd(etcd_here: None) -> Iterator[EtcdServer]:
    with EtcdServer(options=QUICK) as server:
        yield server


@pytest.fixture
def etcd(shared_etcd: EtcdServer) -> EtcdServer:
    """Empty, and to be left running. Its history goes on from test to test."""

    shared_etcd.etcdctl("del", "--prefix", "")
    return shared_etcd


@pytest.fixture
def own_etcd(etcd_here: None) -> Iterator[EtcdServer]:
    """For a test that kills, freezes or changes it."""
    with EtcdServer(options=(*QUICK, "--auth-token-ttl=1")) as server:
        yield server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def tls_etcd(etcd_here: None, certificates: Certificates) -> Iterator[EtcdServer]:
    with EtcdServer(certificates=certificates, options=QUICK) as server:
        yield server


@asynccontextmanager
async def connect(endpoints: list[str], **options: Any) -> AsyncIterator[EtcdStore]:
    named = {f"etcd-{name.replace('_', '-')}": value for name, value in options.items()}
    store = open_store({"etcd-endpoints": endpoints, **named})
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def connected() -> Callable[..., AbstractAsyncContextManager[EtcdStore]]:
    """`async with connected(endpoints, username=...) as store`: a store that is closed at the end."""
    return connect
