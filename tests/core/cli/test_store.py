"""Which store a command speaks to, and why."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tulle.cli.store import StoreAccess, find_store
from tulle.config.errors import ConfigError
from tulle.contracts.specs import ApiMethod
from tulle.node.api import Api
from tulle.plugins import PluginError, Plugins, load_plugins


@pytest.fixture
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tulle-") as name:
        yield Path(name)


def found(plugins: Plugins, directory: Path, **given: str) -> StoreAccess:
    flags = {name.replace("_", "-"): value for name, value in given.items()}
    return find_store(plugins, {"run-dir": str(directory), **flags})


def test_flags_choose_it(plugins: Plugins, tmp_path: Path) -> None:
    access = found(plugins, tmp_path, etcd_endpoints="http://192.0.2.1:2379", etcd_prefix="/x/y/")
    assert (access.config.store, access.prefix) == ("etcd", "/x/y")
    assert access.because == "by flags or environment"


def test_a_setting_of_the_embedded_store_is_a_choice_too(plugins: Plugins, tmp_path: Path) -> None:
    access = found(plugins, tmp_path, sqlite_file="/elsewhere/s")
    assert (access.config.store, access.because) == ("sqlite", "by flags")


@pytest.mark.parametrize("name", ["TULLED_ETCD_ENDPOINTS", "FLANNELD_ETCD_ENDPOINTS"])
def test_the_environment_chooses_it(
    plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://192.0.2.1:2379")
    assert found(plugins, tmp_path).config.store == "etcd"


def test_without_a_word_it_is_that_of_the_running_tulled(plugins: Plugins, short_dir: Path) -> None:
    async def told(query: Mapping[str, str], body: Mapping[str, Any]) -> Any:
        settings = {"etcd-endpoints": ["http://192.0.2.9:2379"], "etcd-password": "secret"}
        return {"store": "etcd", "settings": settings, "prefix": "/theirs"}

    async def run() -> StoreAccess:
        api = Api(short_dir / "tulled.sock", [ApiMethod(verb="GET", path="store", handler=told)])
        await api.start()
        try:
            return await asyncio.to_thread(found, plugins, short_dir)
        finally:
            api.close()

    access = asyncio.run(run())
    assert (access.config.store, access.prefix) == ("etcd", "/theirs")
    assert access.config.store_settings["etcd-password"] == "secret"
    assert access.because == f"of the tulled that runs at {short_dir}"


def test_where_nothing_chooses_and_nothing_runs_it_is_the_embedded_one(
    plugins: Plugins, tmp_path: Path
) -> None:
    access = found(plugins, tmp_path, state_dir=str(tmp_path / "state"))
    assert access.config.store == "sqlite"
    assert access.config.store_settings["sqlite-file"] == str(tmp_path / "state/store.sqlite")
    assert "no tulled answers" in access.because


def test_wrong_flags_are_a_config_error(plugins: Plugins, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--store"):
        found(plugins, tmp_path, store="carrier-pigeon")


def test_settings_that_the_store_refuses_are_said_by_its_name(plugins: Plugins, tmp_path: Path) -> None:
    async def nothing(store: Any) -> None:
        return None

    access = found(plugins, tmp_path, etcd_endpoints="ftp://192.0.2.1")
    with pytest.raises(PluginError, match=r"--store etcd: .*ftp"):
        access.run(nothing)
