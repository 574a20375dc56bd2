"""What our lease said before this start: our record names it, or it is flannel's with our address."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address
from typing import Any

import pytest

from tulle.contracts.backend import Advertisement
from tulle.contracts.store import Put
from tulle.lease.recall import recall
from tulle_memory.store import MemoryStore

PREFIX = "/net"
HERE, OTHER = ip_address("192.0.2.1"), ip_address("192.0.2.2")
DATA = {"VNI": 1, "VtepMAC": "5e:00:00:00:00:01"}


def lease(public: object = HERE, **more: Any) -> bytes:
    value = {"PublicIP": str(public), "PublicIPv6": None, "BackendType": "vxlan", "BackendData": DATA}
    return json.dumps(value | more).encode()


def member(name: str, *subnets: str) -> bytes:
    return json.dumps({"ID": name * 8, "BootID": "b", "Subnets": subnets, "Endpoints": []}).encode()


def told(*records: tuple[str, bytes], node: str = "n1") -> Advertisement | None:
    """All put in one transaction, as tulled puts a lease and its record."""

    async def run() -> Advertisement | None:
        store = MemoryStore()
        try:
            ttl = await store.grant(1000)
            await store.transact([], [Put(f"{PREFIX}/{key}", value, lease=ttl) for key, value in records])
            return await recall(store, PREFIX, node, [HERE])
        finally:
            await store.close()

    return asyncio.run(run())


def test_the_lease_that_our_record_names_is_ours_whatever_its_address() -> None:
    records = ("subnets/10.42.1.0-24", lease(OTHER)), ("members/n1", member("n1", "10.42.1.0-24"))
    assert told(*records) == Advertisement("vxlan", DATA)


def test_a_lease_with_our_address_that_nobody_names_is_flannels_and_ours() -> None:
    assert told(("subnets/10.42.1.0-24", lease())) == Advertisement("vxlan", DATA)


def test_a_lease_with_our_address_that_another_names_is_not_ours() -> None:
    """Two nodes behind one NAT."""
    assert told(("subnets/10.42.1.0-24", lease()), ("members/n2", member("n2", "10.42.1.0-24"))) is None


def test_without_a_lease_nothing_is_said() -> None:
    assert told() is None
    assert told(("subnets/10.42.1.0-24", lease(OTHER))) is None


@pytest.mark.parametrize("data", [None, "text", [1], 7])
def test_data_that_is_no_object_is_text_or_left_out(data: object) -> None:
    found = told(("subnets/10.42.1.0-24", lease(BackendData=data)))
    assert found == Advertisement("vxlan", data_text=data if isinstance(data, str) else None)
