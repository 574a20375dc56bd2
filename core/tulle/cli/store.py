"""Which store a command speaks to: what its flags and environment say (tulled's own), else the store of the tulled that
runs at --run-dir, else the embedded one."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import msgspec

from tulle.config.daemon import DaemonConfig, daemon_config, daemon_options
from tulle.config.flags import parse_flags
from tulle.contracts.specs import OptionSpec, StoreSpec
from tulle.contracts.store import Store
from tulle.node.client import ApiError, Client, NotRunning
from tulle.plugins import PluginError, Plugins, load_plugins

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

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
        return StoreAccess(plugins, config, f"single-machine store; no tulled answers at {config.run_dir}")
    found = msgspec.structs.replace(
        config,
        store=told["store"],
        store_settings=told["settings"],
        prefix=told["prefix"],
        store_default=False,
    )
    return StoreAccess(plugins, found, f"of the tulled that runs at {config.run_dir}")
