"""What we write, another client reads, and the other way round: etcd3 in a process of its own, and etcdctl."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.store import NO_LEASE, Compare, Put
from tulle.testing.etcd import EtcdServer

pytestmark = pytest.mark.etcd

SCRIPT = Path(__file__).with_name("etcd3_witness.py")
LIBRARY = Path(__file__).parents[3] / ".cache" / "etcd3-witness"
FETCH = "run packaging/etcd/witness.sh in the checkout"

Witness = Callable[..., Any]

LEASE_KEY = "/coreos.com/network/subnets/10.5.52.0-24"
LEASE_VALUE = '{"PublicIP":"192.168.1.17","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1}}'


@pytest.fixture
def witness(etcd: EtcdServer) -> Witness:
    """`witness(verb, ...)` runs etcd3."""
    if not (LIBRARY / "etcd3").is_dir():
        pytest.fail(f"these tests need etcd3 as a witness: {FETCH}")
    # An old protobuf, read in pure Python; -S keeps ours out of its sight.
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": str(LIBRARY),
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
    }

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-S", str(SCRIPT), str(etcd.client_port), *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_etcd3_reads_what_we_wrote(etcd: EtcdServer, witness: Witness, connected: Any) -> None:
    async def body() -> list[object]:
        async with connected(etcd.endpoints) as store:
            lease = await store.grant(60)
            await store.transact([], [Put(LEASE_KEY, b"first", lease)])
            await store.transact([], [Put(LEASE_KEY, LEASE_VALUE.encode(), lease)])
            kv = await store.get(LEASE_KEY)
            assert kv is not None
            return [kv.key, LEASE_VALUE, lease, 2, kv.created, kv.modified]

    assert [asyncio.run(body())] == witness("get-prefix", "/coreos.com/network/subnets/")


def test_we_read_and_see_what_etcd3_wrote(etcd: EtcdServer, witness: Witness, connected: Any) -> None:
    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            watch = store.watch("/coreos.com/", after=(await store.list("/coreos.com/")).revision)
            assert (await anext(watch)).synced
            lease = await asyncio.to_thread(witness, "lease-put", "60", LEASE_KEY, LEASE_VALUE)
            (event,) = (await anext(watch)).events
            await watch.aclose()
            kv = await store.get(LEASE_KEY)
            assert kv is not None
            assert (kv.value.decode(), kv.lease, kv.version) == (LEASE_VALUE, lease, 1)
            assert (event.kind, event.kv, event.previous) == ("put", kv, None)
            assert 50 < (await store.remaining([lease]))[lease] <= 60

    asyncio.run(body())


def test_a_transaction_of_etcd3_and_ours_exclude_each_other(
    etcd: EtcdServer, witness: Witness, connected: Any
) -> None:
    async def swap(old: bytes, new: bytes) -> bool:
        async with connected(etcd.endpoints) as store:
            result = await store.transact([Compare("/x", "value", old)], [Put("/x", new)])
            return bool(result.succeeded)

    witness("put", "/x", "a")
    assert asyncio.run(swap(b"a", b"b"))
    assert witness("swap", "/x", "a", "c") is False
    assert witness("swap", "/x", "b", "c") is True
    assert not asyncio.run(swap(b"b", b"d"))


def test_etcdctl_shows_our_keys_and_values(etcd: EtcdServer, connected: Any) -> None:
    async def body() -> None:
        async with connected(etcd.endpoints) as store:
            await store.transact([], [Put(LEASE_KEY, LEASE_VALUE.encode(), NO_LEASE)])

    asyncio.run(body())
    assert etcd.etcdctl("get", "--prefix", "/coreos.com/").splitlines() == [LEASE_KEY, LEASE_VALUE]
