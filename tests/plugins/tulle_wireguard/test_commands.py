"""`tulle wireguard`: what its words write into the store, print, and refuse. The whole way is in tests/lab."""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tulle.cli.main import tulle
from tulle.contracts.store import Put, Store
from tulle_sqlite.store import open_sqlite
from tulle_wireguard.words import WORDS

PREFIX = "/coreos.com/network"
FOLDER = f"{PREFIX}/wireguard/peers/"
CONFIG = {"Network": "10.42.0.0/16", "Backend": {"Type": "wireguard"}}


def key(name: str) -> str:
    return b64encode(sha256(name.encode()).digest()).decode()


class Place:
    """A store with two nodes, and commands on it."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.file = path / "store.sqlite"
        self.flags = (
            "--store=sqlite",
            f"--sqlite-file={self.file}",
            f"--run-dir={path / 'run'}",
            f"--state-dir={path}",
        )
        puts = [Put(f"{PREFIX}/config", json.dumps(config).encode())]
        for number in (1, 2):
            lease = {
                "PublicIP": f"192.0.2.{number}",
                "BackendType": "wireguard",
                "BackendData": {"PublicKey": key(f"n{number}"), "Port": 51820},
            }
            subnet = f"10.42.{number}.0-24"
            member = {"ID": "ab" * 16, "BootID": "x", "Subnets": [subnet], "Endpoints": [f"192.0.2.{number}"]}
            puts.append(Put(f"{PREFIX}/subnets/{subnet}", json.dumps(lease).encode()))
            puts.append(Put(f"{PREFIX}/members/n{number}", json.dumps(member).encode()))
        self.on_store(lambda store: store.transact([], puts))

    def on_store(self, work: Callable[[Store], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            store = open_sqlite({"sqlite-file": str(self.file)})
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def records(self) -> dict[str, Any]:
        listing = self.on_store(lambda store: store.list(FOLDER))
        return {kv.key.removeprefix(FOLDER): json.loads(kv.value) for kv in listing.items}

    def say(self, *words: str) -> Result:
        env = {name: None for name in os.environ if name.startswith(("TULLED_", "FLANNELD_"))}
        env["TULLED_CONFIG_FILE"] = os.devnull
        return CliRunner().invoke(tulle, ["wireguard", *words, *self.flags], env=env)

    def add(self, name: str, *more: str, allowed: str = "10.99.0.7") -> Result:
        return self.say("add-peer", name, "--public-key", key(name), "--allowed-ips", allowed, *more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, CONFIG)


def test_a_peer_is_written_printed_listed_and_removed(place: Place, tmp_path: Path) -> None:
    psk = tmp_path / "psk"
    psk.write_text(key("psk") + "\n")
    done = place.add("laptop", "--preshared-key-file", str(psk), "--persistent-keepalive", "5")
    assert done.exit_code == 0, done.output
    assert place.records() == {
        "laptop": {
            "PublicKey": key("laptop"),
            "AllowedIPs": ["10.99.0.7/32"],
            "PresharedKey": key("psk"),
            "PersistentKeepalive": 5,
        }
    }
    assert [key(name) in done.stdout for name in ("n1", "n2", "psk")] == [True] * 3
    assert "Endpoint = 192.0.2.2:51820" in done.stdout
    assert place.say("peer-config", "laptop").stdout == done.stdout
    listed = place.say("peers")
    assert key("laptop") in listed.stdout
    assert key("psk") not in listed.stdout + place.say("peers", "-o", "json").stdout
    assert place.say("remove-peer", "laptop").exit_code == 0
    assert place.records() == {}
    assert "no stock peers" in place.say("peers").stdout


def test_said_again_it_takes_the_place_of_what_was_said_before(place: Place) -> None:
    place.add("laptop")
    done = place.add("laptop", "--via", "n2", allowed="10.99.0.8/32,10.98.0.0/16")
    assert place.records()["laptop"]["Via"] == ["n2"]
    assert place.records()["laptop"]["AllowedIPs"] == ["10.99.0.8/32", "10.98.0.0/16"]
    assert "AllowedIPs = 10.42.0.0/16" in done.stdout
    assert key("n1") not in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("x", "--public-key", "short", "--allowed-ips", "10.99.0.7"), "PublicKey: it is not 32 bytes"),
        (
            ("x", "--public-key", key("n1"), "--allowed-ips", "10.99.0.7"),
            "a node of the cluster has this key",
        ),
        (("x", "--public-key", key("x"), "--allowed-ips", "10.42.1.7"), "overlaps the subnet 10.42.1.0/24"),
        (("x", "--public-key", key("x"), "--allowed-ips", "0.0.0.0/0"), "is everything"),
        (("x", "--public-key", key("other"), "--allowed-ips", "10.99.0.7"), "it has the key of other"),
        (("x", "--public-key", key("x"), "--allowed-ips", "10.97.0.1"), "belongs to the peer other"),
        (("a/b", "--public-key", key("x"), "--allowed-ips", "10.99.0.7"), "give a name such as laptop-7"),
        (("x", "--public-key", key("x"), "--allowed-ips", "10.9.0.7", "--via", "n9"), "there is no node n9"),
    ],
)
def test_what_nodes_would_refuse_is_refused_and_nothing_is_written(
    place: Place, words: tuple[str, ...], said: str
) -> None:
    place.add("other", allowed="10.97.0.1")
    before = place.records()
    done = place.say("add-peer", *words)
    assert done.exit_code != 0
    assert said in " ".join(done.output.split())
    assert place.records() == before


def test_a_newcomer_takes_nothing_from_a_peer_that_is_there_whatever_their_names(place: Place) -> None:
    place.add("laptop", "--via", "n1", allowed="10.97.0.1,10.98.0.0/16")
    before = place.records()
    for public, allowed, said in (
        ("laptop", "10.99.0.7", "PublicKey: it has the key of laptop"),
        ("lap2", "10.99.0.7,10.98.0.0/16", "AllowedIPs: 10.98.0.0/16 belongs to the peer laptop"),
    ):
        done = place.say("add-peer", "lap2", "--public-key", key(public), "--allowed-ips", allowed)
        assert done.exit_code == 1
        assert said in " ".join(done.output.split())
        assert "tulle wireguard remove-peer laptop" in " ".join(done.output.split())
    assert place.records() == before
    assert (
        place.add("lap2", allowed="10.98.7.0/24").exit_code == 0
    )  # inside the other's: the longer prefix wins


@pytest.mark.parametrize(
    ("config", "said"),
    [({"Network": "10.42.0.0/16"}, "this cluster's backend is udp"), ({}, "Network")],
)
def test_a_cluster_without_wireguard_has_no_use_for_it(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    place = Place(tmp_path, config)
    done = place.add("laptop")
    assert done.exit_code != 0
    assert said in f"{done.output} {done.exception}"
    assert place.records() == {}


def test_a_record_that_makes_no_sense_is_listed_as_such_and_can_be_removed(place: Place) -> None:
    place.on_store(lambda store: store.transact([], [Put(f"{FOLDER}odd", b"[]")]))
    assert "unreadable: it is not JSON" in place.say("peers").stdout
    assert "say it anew" in place.say("peer-config", "odd").output
    assert place.say("remove-peer", "odd").exit_code == 0


@pytest.mark.parametrize("word", ["peer-config", "remove-peer"])
def test_a_peer_that_is_not_there_is_said(place: Place, word: str) -> None:
    done = place.say(word, "nobody")
    assert done.exit_code == 1
    assert "there is no peer nobody; tulle wireguard peers lists them" in done.output


def test_each_word_of_the_list_is_there_and_helps() -> None:
    for word in WORDS:
        done = CliRunner().invoke(tulle, ["wireguard", word, "--help"])
        assert (done.exit_code, word in done.output) == (0, True)
    assert all(word in CliRunner().invoke(tulle, ["wireguard", "--help"]).output for word in WORDS)
