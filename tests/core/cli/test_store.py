"""Which store a command speaks to, and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.cli.store import KeptElsewhere, NoStore, StoreAccess, find_store
from tulle.config.errors import ConfigError
from tulle.contracts.specs import OptionSpec, SubnetManagerSpec
from tulle.hookspecs import hookimpl
from tulle.node.client import ApiError
from tulle.node.http import HttpError
from tulle.node.rundir import Record, RunDir
from tulle.plugins import PluginError, PluginInfo, Plugins, load_plugins


@pytest.fixture
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TULLED_CONFIG_FILE", os.devnull)


def found(plugins: Plugins, directory: Path, **given: str) -> StoreAccess:
    flags = {name.replace("_", "-"): value for name, value in given.items()}
    return find_store(plugins, {"run-dir": str(directory), **flags})


def test_flags_choose_it(plugins: Plugins, tmp_path: Path) -> None:
    access = found(plugins, tmp_path, etcd_endpoints="http://192.0.2.1:2379", etcd_prefix="/x/y/")
    assert (access.config.store, access.prefix) == ("etcd", "/x/y")
    assert access.because == "by --etcd-endpoints"


def test_a_setting_of_the_embedded_store_is_a_choice_too(plugins: Plugins, tmp_path: Path) -> None:
    access = found(plugins, tmp_path, sqlite_file="/elsewhere/s")
    assert (access.config.store, access.because) == ("sqlite", "by --sqlite-file")


@pytest.mark.parametrize("name", ["TULLED_ETCD_ENDPOINTS", "FLANNELD_ETCD_ENDPOINTS"])
def test_the_environment_chooses_it(
    plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://192.0.2.1:2379")
    access = found(plugins, tmp_path)
    assert (access.config.store, access.because) == ("etcd", f"by {name}")


def test_without_a_word_it_is_that_of_the_running_tulled(
    plugins: Plugins, short_dir: Path, serving: Any
) -> None:
    settings = {"etcd-endpoints": ["http://192.0.2.9:2379"], "etcd-password": "secret"}
    with serving(short_dir, {"store": {"store": "etcd", "settings": settings, "prefix": "/theirs"}}):
        access = found(plugins, short_dir)
    assert (access.config.store, access.prefix) == ("etcd", "/theirs")
    assert access.config.store_settings["etcd-password"] == "secret"
    assert access.because == f"of the tulled that runs at {short_dir}"


def test_a_store_that_tulled_took_by_default_is_said_to_be_of_one_machine(
    plugins: Plugins, short_dir: Path, serving: Any
) -> None:
    told = {"store": "sqlite", "settings": {"sqlite-file": "/x"}, "prefix": "/p", "by_default": True}
    with serving(short_dir, {"store": told}):
        because = found(plugins, short_dir).because
    assert "single-machine store" in because
    assert "http://127.0.0.1:4001,http://127.0.0.1:2379" in because


def test_whoever_may_not_ask_the_tulled_is_not_given_another_store(
    plugins: Plugins, short_dir: Path, serving: Any
) -> None:
    with serving(short_dir, {"store": HttpError(403, "only root may speak to tulled")}):
        with pytest.raises(ApiError, match="only root may speak to tulled, or name the store by its flags"):
            found(plugins, short_dir)
        assert found(plugins, short_dir, sqlite_file="/x").because == "by --sqlite-file"


def test_the_config_file_names_the_store_of_a_tulled_that_does_not_run(
    plugins: Plugins, short_dir: Path, serving: Any
) -> None:
    file = short_dir / "tulled.toml"
    file.write_text('etcd-endpoints = ["http://192.0.2.7:2379"]\nnode-name = "n7"\n')
    access = found(plugins, short_dir, config_file=str(file))
    assert (access.config.store, access.because) == ("etcd", f"by {file}")
    assert (access.config.node_name, access.node_given) == ("n7", True)
    told = {"store": "sqlite", "settings": {"sqlite-file": "/x"}, "prefix": "/p"}
    with serving(short_dir, {"store": told}):  # it may have been started with other flags
        assert found(plugins, short_dir, config_file=str(file)).config.store == "sqlite"


def test_the_last_tulled_of_the_run_directory_is_remembered(plugins: Plugins, tmp_path: Path) -> None:
    record = Record(
        node="n1",
        node_id="0" * 32,
        state_dir=str(tmp_path),
        store="sqlite",
        store_prefix="/theirs",
        store_settings={"sqlite-file": "/x"},
    )
    RunDir(tmp_path).write_record(record)
    access = found(plugins, tmp_path)
    assert (access.config.store_settings["sqlite-file"], access.prefix) == ("/x", "/theirs")
    assert access.because == f"of the last tulled at {tmp_path}; none answers now"
    default = {"sqlite-file": str(tmp_path / "store.sqlite")}
    RunDir(tmp_path).write_record(msgspec.structs.replace(record, store_settings=default))
    assert "single-machine store" in found(plugins, tmp_path, state_dir=str(tmp_path)).because


def test_where_nothing_chooses_and_nothing_runs_it_is_the_embedded_one(
    plugins: Plugins, tmp_path: Path
) -> None:
    access = found(plugins, tmp_path, state_dir=str(tmp_path / "state"))
    assert access.config.store == "sqlite"
    assert access.config.store_settings["sqlite-file"] == str(tmp_path / "state/store.sqlite")
    assert "no tulled answers" in access.because
    assert "single-machine store" in access.because
    assert not access.node_given


def test_reading_makes_no_store_and_writing_does(plugins: Plugins, tmp_path: Path) -> None:
    async def nothing(store: Any) -> str:
        await store.get("x")
        return "done"

    async def without(store: Any, error: str) -> tuple[Any, str]:
        return store, error

    access = found(plugins, tmp_path, sqlite_file=str(tmp_path / "new/s"))
    with pytest.raises(NoStore, match=r"there is no store file .*/new/s \(by --sqlite-file\): `tulle init`"):
        access.run(nothing)
    store, error = access.run_without(without)
    assert store is None
    assert "there is no store file" in error
    assert not (tmp_path / "new").exists()
    assert access.run(nothing, makes=True) == "done"
    assert access.run(nothing) == "done"
    store, error = access.run_without(without)
    assert (store.name, error) == ("sqlite", "")


def test_wrong_flags_are_a_config_error(plugins: Plugins, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--store"):
        found(plugins, tmp_path, store="carrier-pigeon")


def test_settings_that_the_store_refuses_are_said_by_its_name(plugins: Plugins, tmp_path: Path) -> None:
    async def nothing(store: Any) -> None:
        return None

    access = found(plugins, tmp_path, etcd_endpoints="ftp://192.0.2.1")
    with pytest.raises(PluginError, match=r"--store etcd: .*ftp"):
        access.run(nothing)

    async def reason(store: Any, error: str) -> str:
        return error

    assert "ftp" in access.run_without(reason)


class ThirdParty:
    """A plugin with a subnet manager, which no command ever makes."""

    @hookimpl
    def tulle_subnet_managers(self) -> list[SubnetManagerSpec]:
        options = (OptionSpec(name="cluster-file"),)
        return [SubnetManagerSpec(name="theirs", factory="a:b", options=options, chosen_by=("cluster-file",))]


@pytest.fixture
def with_manager(plugins: Plugins) -> Plugins:
    plugins.add(PluginInfo(name="third-party", version="1"), ThirdParty())
    return plugins


def test_where_a_subnet_manager_is_meant_there_is_no_store_to_open_or_to_make(
    with_manager: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TULLED_CLUSTER_FILE", "/x")
    access = found(with_manager, tmp_path)

    async def never(store: object) -> None:
        raise AssertionError

    async def told(store: object, why: str) -> str:
        assert store is None
        return why

    for makes in (False, True):
        with pytest.raises(
            KeptElsewhere, match=r"kept by the subnet manager theirs \(by TULLED_CLUSTER_FILE\)"
        ):
            access.run(never, makes=makes)
    assert access.run_without(told) == access.elsewhere()
    assert "tulle status" in access.elsewhere()
    assert list(tmp_path.iterdir()) == []


def test_where_a_store_is_meant_a_subnet_manager_that_is_installed_does_not_matter(
    with_manager: Plugins, tmp_path: Path
) -> None:
    assert found(with_manager, tmp_path, store="memory").elsewhere() == ""


def test_the_running_tulled_may_have_a_subnet_manager(
    with_manager: Plugins, short_dir: Path, serving: Any
) -> None:
    answer = {"store": "theirs", "settings": {"cluster-file": "/x"}, "prefix": "/p"}
    with serving(short_dir, {"store": answer}):
        access = found(with_manager, short_dir)
    assert f"theirs (of the tulled that runs at {short_dir})" in access.elsewhere()
