"""Which store a command speaks to: what its flags and environment say (tulled's own), else the store of the tulled that
runs, or ran last, at --run-dir, else the embedded one."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import click
import msgspec

from tulle.config.daemon import DaemonConfig, daemon_config, daemon_options
from tulle.config.flags import parse_flags
from tulle.contracts.specs import OptionSpec, StoreSpec
from tulle.contracts.store import Store
from tulle.node.client import ApiError, Client, NotRunning
from tulle.node.rundir import RunDir
from tulle.plugins import PluginError, Plugins, load_plugins

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

FLANNELS_ENDPOINTS = "http://127.0.0.1:2379"
"""What flannel takes where no --etcd-endpoints are given; tulle takes a store of this machine."""

CORE_NAMES = ("store", "etcd-prefix", "run-dir", "state-dir")


class StoreAccess(msgspec.Struct, frozen=True):
    """How to reach the store, and why that one."""

    plugins: Plugins
    config: DaemonConfig
    because: str

    @property
    def prefix(self) -> str:
        return self.config.prefix

    def run(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Open the store, do the work, close it."""

        async def whole() -> T:
            spec = self.plugins.find("tulle_stores", StoreSpec, self.config.store, "--store")
            try:
                store: Store = self.plugins.make(spec, self.config.store_settings)
            except ValueError as error:
                raise PluginError(f"--store {self.config.store}: {error}") from error
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(whole())


def store_options(command: F) -> F:
    """Adds tulled's store flags; the command gets `access: StoreAccess`."""
    plugins = load_plugins()
    known = [one for one in daemon_options(plugins.stores()) if _concerns_store(one, plugins)]

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = {one.name: kwargs.pop(one.name.replace("-", "_")) for one in known}
        return command(*args, access=find_store(plugins, given), **kwargs)

    decorated: Any = wrapped
    for one in reversed(known):
        decorated = click.option(f"--{one.name}", one.name.replace("-", "_"), help=one.help)(decorated)
    return decorated  # type: ignore[no-any-return]


def _concerns_store(option: OptionSpec, plugins: Plugins) -> bool:
    names = {one.name for spec in plugins.stores() for one in spec.options}
    return option.name in names or option.name in CORE_NAMES


def find_store(plugins: Plugins, given: dict[str, str | None]) -> StoreAccess:
    """Raises ConfigError."""
    options = daemon_options(plugins.stores())
    argv = [f"--{name}={value}" for name, value in given.items() if value is not None]
    parsed = parse_flags(options, argv, os.environ, program="tulle")
    config = daemon_config(parsed, plugins.stores(), hostname=socket.gethostname())
    if not config.store_default:
        return StoreAccess(plugins, config, "by flags or environment")
    if any(given.get(one.name) for spec in plugins.stores() for one in spec.options):
        return StoreAccess(plugins, config, "by flags")
    try:
        told = Client(config.run_dir).get("store")
    except (NotRunning, ApiError):
        return _of_last(plugins, config)
    found = _with_store(config, told["store"], told["settings"], told["prefix"])
    because = f"of the tulled that runs at {config.run_dir}"
    if told.get("by_default"):
        because += f"; {_by_default()}"
    return StoreAccess(plugins, found, because)


def _by_default() -> str:
    return f"single-machine store, since no endpoints are given; flannel would have used {FLANNELS_ENDPOINTS}"


def _of_last(plugins: Plugins, config: DaemonConfig) -> StoreAccess:
    """What the last tulled of the run directory used (without its secrets), else the embedded store."""
    record = RunDir(config.run_dir).record()
    if record is None:
        return StoreAccess(plugins, config, f"{_by_default()}; no tulled answers at {config.run_dir}")
    found = _with_store(config, record.store, record.store_settings, record.store_prefix)
    return StoreAccess(plugins, found, f"of the last tulled at {config.run_dir}; none answers now")


def _with_store(config: DaemonConfig, store: str, settings: Mapping[str, Any], prefix: str) -> DaemonConfig:
    return msgspec.structs.replace(
        config, store=store, store_settings=dict(settings), prefix=prefix, store_default=False
    )
