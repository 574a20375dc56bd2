"""`tulle leases`: on the store alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tulle.contracts.store import Put
from tulle_sqlite.store import open_sqlite

PREFIX = "/coreos.com/network"
FLANNELS = b'{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1}}'


def fill(file: Path) -> None:
    async def run() -> None:
        store = open_sqlite({"sqlite-file": str(file)})
        lease = await store.grant(86_400)
        await store.transact(
            [],
            [
                Put(f"{PREFIX}/subnets/10.42.7.0-24", FLANNELS, lease),
                Put(f"{PREFIX}/subnets/10.42.8.0-24", b"{}"),
                Put(f"{PREFIX}/subnets/10.42.9.0-24", b"not JSON", lease),
            ],
        )
        await store.close()

    asyncio.run(run())


def test_none_is_said_with_the_place(tulle: Any, store: tuple[str, ...]) -> None:
    said = tulle("leases", *store)
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("no leases under /coreos.com/network/subnets in sqlite (by flags")
    assert json.loads(tulle("leases", "-o", "json", *store).out) == []


def test_each_has_a_line_also_the_unreadable(tulle: Any, store: tuple[str, ...], tmp_path: Path) -> None:
    fill(tmp_path / "store.sqlite")
    lines = tulle("leases", *store).out.splitlines()
    assert [line.split()[0] for line in lines] == ["SUBNETS", "10.42.7.0/24", "10.42.8.0/24", "10.42.9.0-24"]
    assert "(flannel)" in lines[1]
    assert "192.0.2.7" in lines[1]
    assert "in 23h59m" in lines[1]
    assert "unreadable" in lines[3]
    by_key = {one["key"]: one for one in json.loads(tulle("leases", "-o", "json", *store).out)}
    assert by_key["10.42.7.0-24"]["backend"] == "vxlan"
    assert by_key["10.42.8.0-24"]["reserved"] is True
    assert by_key["10.42.9.0-24"]["problem"]
