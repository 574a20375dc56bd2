"""`tulle init`: once, twice, differently, by force; and wrong, with nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_without_flags_it_writes_a_config_that_works(tulle: Any, store: tuple[str, ...]) -> None:
    said = tulle("init", *store)
    assert said.status == 0
    assert "written: /coreos.com/network/config in sqlite (by --store)" in said.out
    assert "next: start tulled" in said.out
    written = json.loads(tulle("config", "show", *store).out)
    assert written == {"Network": "10.42.0.0/16", "SubnetLen": 24, "Backend": {"Type": "udp"}}


def test_all_that_the_flags_say_is_in_it(tulle: Any, store: tuple[str, ...]) -> None:
    words = ["--network=10.9.0.0/16", "--subnet-len=26", "--ipv6-network=fd09::/48", "--ipv6-subnet-len=60"]
    words += ["--backend=udp", "--backend-option=Port=9000", "--backend-option", "SourceCheck=peer"]
    assert tulle("init", *words, *store).status == 0
    assert json.loads(tulle("config", "show", *store).out) == {
        "Network": "10.9.0.0/16",
        "SubnetLen": 26,
        "EnableIPv6": True,
        "IPv6Network": "fd09::/48",
        "IPv6SubnetLen": 60,
        "Backend": {"Type": "udp", "Port": 9000, "SourceCheck": "peer"},
    }


def test_ipv6_alone_is_alone(tulle: Any, store: tuple[str, ...]) -> None:
    assert tulle("init", "--ipv6-network=fd09::/48", *store).status == 0
    written = json.loads(tulle("config", "show", *store).out)
    assert written["EnableIPv4"] is False
    assert "Network" not in written


def test_the_same_again_is_well(tulle: Any, store: tuple[str, ...]) -> None:
    tulle("init", *store)
    said = tulle("init", *store)
    assert said.status == 0
    assert "already there, and the same" in said.out


def test_another_one_is_refused_and_shown_until_it_is_forced(tulle: Any, store: tuple[str, ...]) -> None:
    tulle("init", *store)
    said = tulle("init", "--network=10.9.0.0/16", *store)
    assert said.status == 1
    assert "10.42.0.0/16" in said.err
    assert "--force" in said.err
    assert json.loads(tulle("config", "show", *store).out)["Network"] == "10.42.0.0/16"
    assert tulle("init", "--network=10.9.0.0/16", "--force", *store).status == 0
    assert json.loads(tulle("config", "show", *store).out)["Network"] == "10.9.0.0/16"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--network=10.5.0.0/30"], "Network"),
        (["--network=cluster"], "Network"),
        (["--network=10.5.0.0/16", "--subnet-len=31"], "SubnetLen"),
        (["--subnet-len=17"], "SubnetLen"),
        (["--subnet-len=x"], "--subnet-len"),
        (["--ipv6-network=10.5.0.0/16"], "IPv6Network"),
        (["--backend=carrier-pigeon"], "'carrier-pigeon' is no backend that is installed here"),
        (["--backend-option=Port=0"], "Port: 0"),
        (["--backend-option=Port"], "KEY=VALUE"),
        (["--store=carrier-pigeon"], "--store"),
    ],
)
def test_what_is_wrong_is_status_2_and_nothing_is_written(
    tulle: Any, store: tuple[str, ...], tmp_path: Path, words: list[str], named: str
) -> None:
    said = tulle("init", *store, *words)
    assert said.status == 2
    assert named in said.err
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_all_problems_are_said_at_once(tulle: Any, store: tuple[str, ...]) -> None:
    said = tulle("init", "--network=10.5.0.0/30", "--backend-option=Port=0", *store)
    assert "2 problems" in said.err


def test_for_programs_it_says_what_was_written(tulle: Any, store: tuple[str, ...]) -> None:
    said = json.loads(tulle("init", "-o", "json", *store).out)
    assert (said["key"], said["store"], said["written"]) == ("/coreos.com/network/config", "sqlite", True)
    assert said["config"]["Network"] == "10.42.0.0/16"
    assert json.loads(tulle("init", "-o", "json", *store).out)["written"] is False
