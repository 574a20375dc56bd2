"""`tulle leases`: on the store alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

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
    tulle("init", *store)
    said = tulle("leases", *store)
    assert (said.status, said.err) == (0, "")
    assert said.out == "no leases under /coreos.com/network/subnets in sqlite (by --store)\n"
    assert json.loads(tulle("leases", "-o", "json", *store).out) == []


def test_where_there_is_no_store_it_says_so_and_makes_none(tulle: Any, tmp_path: Path) -> None:
    run_dir = f"--run-dir={tmp_path / 'run'}"
    said = tulle("leases", f"--sqlite-file={tmp_path / 'deep/x.db'}", run_dir)
    assert (said.status, said.out) == (1, "")
    assert f"there is no store file {tmp_path / 'deep/x.db'}" in said.err
    by_default = tulle("leases", f"--state-dir={tmp_path / 'state'}", run_dir)
    assert by_default.status == 1
    assert "single-machine store" in by_default.err
    assert "http://127.0.0.1:4001,http://127.0.0.1:2379" in by_default.err
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_was_taken_by_default_is_said_to_be_of_one_machine(tulle: Any, tmp_path: Path) -> None:
    places = (f"--run-dir={tmp_path / 'run'}", f"--state-dir={tmp_path}")
    assert tulle("init", *places).status == 0
    fill(tmp_path / "store.sqlite")
    last = tulle("leases", *places).out.splitlines()[-1]
    assert "single-machine store, since no endpoints are given" in last
    assert "flannel would have used http://127.0.0.1:4001,http://127.0.0.1:2379" in last


def test_a_backend_that_the_lease_does_not_name_is_the_network_configs(
    tulle: Any, store: tuple[str, ...]
) -> None:
    tulle("init", *store)
    tulle("leases", "reserve", "10.42.7.0/24", "n7", *store)
    tulle("leases", "reserve", "10.42.8.0/24", "--public-ip=192.0.2.8", *store)
    lines = tulle("leases", *store).out.splitlines()
    assert lines[1].split()[:4] == ["10.42.7.0/24", "n7", "-", "-"]
    assert "nobody: it has not come yet" in lines[1]
    assert lines[2].split()[:4] == ["10.42.8.0/24", "(flannel)", "192.0.2.8", "(udp)"]
    assert "never (reserved)" in lines[2]


def test_a_reservation_is_made_once_and_released_by_subnet_or_node(
    tulle: Any, store: tuple[str, ...]
) -> None:
    tulle("init", *store)
    first = json.loads(tulle("leases", "reserve", "10.42.7.0/24", "n7", "-o", "json", *store).out)
    assert first == {"reserved": ["10.42.7.0/24: reserved for node n7"], "changed": True}
    assert (
        json.loads(tulle("leases", "reserve", "10.42.7.0/24", "n7", "-o", "json", *store).out)["changed"]
        is False
    )
    taken = tulle("leases", "reserve", "10.42.7.0/24", "n8", *store)
    assert taken.status == 1
    assert "belongs to node n7" in taken.err
    asked = tulle("leases", "release", "n7", *store)
    assert asked.status == 1
    assert "nobody can be asked here: give --yes" in asked.err
    done = json.loads(tulle("leases", "release", "n7", "--yes", "-o", "json", *store).out)
    assert done == {"released": ["reservation 10.42.7.0-24 of node n7"]}
    again = tulle("leases", "release", "10.42.7.0/24", "--yes", *store)
    assert again.status == 1
    assert "`tulle leases` shows what is" in again.err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("10.42.7.0/24",), 2, "say for whom"),
        (("10.42.7.1/24", "n7"), 2, "host bits"),
        (("nonsense", "n7"), 2, "give one such as 10.5.52.0/24"),
        (("10.42.7.0/24", "a/b"), 2, "cannot be a node's name"),
        (("10.42.7.0/24", "--public-ip=x"), 2, "give one such as 192.0.2.7"),
        (("10.42.7.0/24", "--public-ip=192.0.2.1", "--public-ip=192.0.2.2"), 2, "two IPv4 addresses"),
        (("10.99.7.0/24", "n7"), 1, "none of the subnets that the network config has to give"),
        (("10.42.7.0/25", "n7"), 1, "give one in the form"),
    ],
)
def test_a_reservation_that_cannot_be_says_why(
    tulle: Any, store: tuple[str, ...], words: tuple[str, ...], status: int, said: str
) -> None:
    tulle("init", *store)
    done = tulle("leases", "reserve", *words, *store)
    assert done.status == status
    assert said in done.err
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
