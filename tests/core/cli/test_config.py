"""`tulle config show|set|check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

GOOD = '{"Network": "10.5.0.0/16", "Strange": 1, "Backend": {"Type": "udp", "Port": 9000}}'
BROKEN_CONFIGS = {
    "empty": "",
    "not JSON": "network: 10.5.0.0/16",
    "no object": "[]",
    "no network": "{}",
    "network is no network": '{"Network": "10.5.0.0"}',
    "network too small": '{"Network": "10.5.0.0/29"}',
    "subnets too large": '{"Network": "10.5.0.0/16", "SubnetLen": 17}',
    "first subnet outside": '{"Network": "10.5.0.0/16", "SubnetMin": "10.6.0.0"}',
    "last before first": '{"Network": "10.5.0.0/16", "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.1.0"}',
    "IPv6 without network": '{"Network": "10.5.0.0/16", "EnableIPv6": true}',
    "no family": '{"EnableIPv4": false}',
    "unknown backend": '{"Network": "10.5.0.0/16", "Backend": {"Type": "carrier-pigeon"}}',
    "wrong port": '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp", "Port": "8285"}}',
}


def test_where_there_is_no_store_it_says_so_and_makes_none(
    tulle: Any, store: tuple[str, ...], tmp_path: Path
) -> None:
    for word in ("show", "check"):
        said = tulle("config", word, *store)
        assert (said.status, said.out) == (1, "")
        assert f"there is no store file {tmp_path / 'store.sqlite'} (by --store)" in said.err
        assert "tulle init" in said.err
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_config_it_says_how_to_write_one(tulle: Any, store: tuple[str, ...]) -> None:
    tulle("init", "--etcd-prefix=/other", *store)
    for word in ("show", "check"):
        said = tulle("config", word, *store)
        assert said.status == 1
        assert "there is no /coreos.com/network/config in sqlite" in said.err
        assert "tulle init" in said.err


def test_bytes_that_are_no_text_are_refused_in_words(
    tulle: Any, store: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_bytes(b'{"Network": "\xff"}')
    for word in ("set", "check"):
        said = tulle("config", word, tmp_path / "config.json", *store)
        assert said.status == 2
        assert "is not UTF-8" in said.err


def test_for_programs_it_says_what_was_set(tulle: Any, store: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(GOOD)
    said = json.loads(tulle("config", "set", tmp_path / "config.json", "-o", "json", *store).out)
    assert (said["written"], said["config"]["Network"]) == (True, "10.5.0.0/16")


def test_what_is_set_is_shown_as_it_was_written(tulle: Any, store: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(GOOD)
    said = tulle("config", "set", file, *store)
    assert said.status == 0
    assert "written: /coreos.com/network/config in sqlite" in said.out
    assert "Strange" in said.err  # a warning: nobody knows this key
    assert tulle("config", "show", *store).out == GOOD + "\n"
    assert json.loads(tulle("config", "show", "-o", "json", *store).out) == json.loads(GOOD)


def test_another_prefix_is_another_cluster(tulle: Any, store: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(GOOD)
    tulle("config", "set", file, *store, "--etcd-prefix=/other")
    assert tulle("config", "show", *store).status == 1
    assert tulle("config", "show", *store, "--etcd-prefix=/other").status == 0


def test_check_gives_all_problems_as_data(tulle: Any, store: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"Network": "10.5.0.0/29", "Backend": {"Type": "pigeon"}}')
    said = tulle("config", "check", file, "-o", "json", *store)
    assert said.status == 2
    found = json.loads(said.out)
    assert found["ok"] is False
    assert [one["key"] for one in found["problems"]] == ["Network", "Backend.Type"]


def test_check_says_ok_and_shows_the_defaults(tulle: Any, store: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(GOOD)
    said = tulle("config", "check", file, *store)
    assert said.status == 0
    assert '"SubnetLen": 24' in said.out
    assert "warning: " in said.err
    as_json = json.loads(tulle("config", "check", file, "-o", "json", *store).out)
    assert as_json["ok"] is True
    assert as_json["networks"] == ["10.5.0.0/16"]
    assert not (tmp_path / "store.sqlite").exists()


@pytest.mark.parametrize("name", BROKEN_CONFIGS)
def test_a_broken_config_is_status_2_and_the_old_one_stays(
    tulle: Any, store: tuple[str, ...], tmp_path: Path, name: str
) -> None:
    tulle("init", *store)
    before = tulle("config", "show", *store).out
    file = tmp_path / "config.json"
    file.write_text(BROKEN_CONFIGS[name])
    for word in ("set", "check"):
        said = tulle("config", word, file, *store)
        assert said.status == 2
        assert said.err.startswith("tulle: 1 problem in the network config:\n")
        assert "; give " in said.err
        assert said.out == ""
    assert tulle("config", "show", *store).out == before


def test_a_file_that_is_not_there_is_status_2(tulle: Any, store: tuple[str, ...], tmp_path: Path) -> None:
    said = tulle("config", "set", tmp_path / "none.json", *store)
    assert said.status == 2
    assert "none.json" in said.err
