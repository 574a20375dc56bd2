"""Which store a command speaks to: what its flags and environment say, else that of the tulled that runs at --run-dir,
else what tulled's config file says, else that of the last tulled there, else the embedded one."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

import click
import msgspec

from tulle.config.core_options import SINGLE_MACHINE
from tulle.config.daemon import DaemonConfig
from tulle.config.groups import all_options
from tulle.contracts.specs import StoreChoice, StoreSpec, load
from tulle.contracts.store import Store, StoreError
from tulle.node.client import ApiError, Client, NotRunning
from tulle.node.rundir import RunDir
from tulle.node.settings import Settings, gather
from tulle.plugins import PluginError, Plugins, load_plugins

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

CORE_NAMES = frozenset(("store", "etcd-prefix", "run-dir", "state-dir", "config-file"))
NODE_NAME = "node-name"
FORBIDDEN = 403


class NoStore(StoreError):
    """There is nothing yet where the store would be. The text says what to do."""


class KeptElsewhere(StoreError):
    """A subnet manager has taken the store's place. The text says where to look instead."""


class StoreAccess(msgspec.Struct, frozen=True):
    """How to reach the store, and why that one."""

    plugins: Plugins
    config: DaemonConfig
    because: str
    node_given: bool = False
    """The node's name is not merely the host's."""
    guessed: bool = False
    """Nothing says which store is meant: no flag, no tulled, no config file, no record of the last tulled."""

    @property
    def prefix(self) -> str:
        return self.config.prefix

    @property
    def place(self) -> str:
        """For people."""
        return f"{self.config.store} ({self.because})"

    def run(self, work: Callable[[Store], Awaitable[T]], *, makes: bool = False) -> T:
        """Open the store, do the work, close it. Only with `makes` a store comes into being that is not there. Raises
        NoStore, KeptElsewhere, PluginError, and what the work raises."""

        async def whole() -> T:
            missing = "" if makes else self._missing()
            if missing:
                advice = "`tulle init` makes one, or name another by its flags"
                raise NoStore(f"{missing} ({self.because}): {advice}")
            store = self._open()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(whole())

    def run_without(self, work: Callable[[Store | None, str], Awaitable[T]]) -> T:
        """For what goes on where there is no store to open: the work is given None and the reason then. A store that
        is there and does not answer is the work's own affair."""

        async def whole() -> T:
            if elsewhere := self.elsewhere():
                return await work(None, elsewhere)
            missing = self._missing()
            if missing:
                return await work(None, f"{missing}; `tulle init` makes one")
            try:
                store = self._open()
            except PluginError as error:
                return await work(None, str(error))
            try:
                return await work(store, "")
            finally:
                await store.close()

        return asyncio.run(whole())

    def elsewhere(self) -> str:
        """Why there is no store to speak to; "" where there is one, or should be. Raises PluginError."""
        spec = self.plugins.store_choice(self.config.store)
        if isinstance(spec, StoreSpec):
            return ""
        return (
            f"subnets and network config are kept by the subnet manager {self.place} and not in a store that this "
            "command can read or write: look there, by its own tools. `tulle status` shows what this node has, and "
            "`tulle down --release`, while tulled runs, gives it back"
        )

    def _spec(self) -> StoreSpec:
        spec = self.plugins.store_choice(self.config.store)
        if not isinstance(spec, StoreSpec):
            raise KeptElsewhere(self.elsewhere())
        return spec

    def _missing(self) -> str:
        """That there is no store yet; "" where there is one, or nobody can say."""
        spec = self._spec()
        if not spec.missing:
            return ""
        try:
            return str(load(spec.missing)(self.config.store_settings))
        except Exception:  # a fault of the plugin: what opening the store says will do
            return ""

    def _open(self) -> Store:
        try:
            store: Store = self.plugins.make(self._spec(), self.config.store_settings)
        except ValueError as error:
            raise PluginError(f"--store {self.config.store}: {error}") from error
        return store


def store_options(command: F) -> F:
    """Adds tulled's store flags; the command gets `access: StoreAccess`."""
    return _with_flags(command, CORE_NAMES)


def node_options(command: F) -> F:
    """The same with --node-name, for what concerns this node."""
    return _with_flags(command, CORE_NAMES | {NODE_NAME})


def _with_flags(command: F, core_names: Collection[str]) -> F:
    plugins = load_plugins()
    of_stores = {
        option.name
        for hook in ("tulle_stores", "tulle_subnet_managers")
        for spec in plugins.specs(hook, StoreChoice)
        for option in spec.options
    }
    known = [
        one for one in all_options(plugins.option_groups()) if one.name in of_stores or one.name in core_names
    ]

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = {one.name: kwargs.pop(_argument(one.name)) for one in known}
        return command(*args, access=find_store(plugins, given), **kwargs)

    decorated: Any = wrapped
    for one in reversed(known):
        decorated = click.option(f"--{one.name}", _argument(one.name), help=one.help)(decorated)
    return decorated  # type: ignore[no-any-return]


def _argument(flag: str) -> str:
    return flag.replace("-", "_")


def find_store(plugins: Plugins, given: Mapping[str, str | None]) -> StoreAccess:
    """Raises ConfigError, PluginError."""
    argv = [f"--{name}={value}" for name, value in given.items() if value is not None]
    settings = gather(plugins, argv, os.environ)
    config = settings.config
    assert config is not None  # no flag here asks for help or version
    node_given = NODE_NAME in settings.parsed.given
    config, because = _place(settings, config, plugins)
    guessed = because.startswith(SINGLE_MACHINE)
    return StoreAccess(plugins, config, because, node_given, guessed)


def _place(settings: Settings, config: DaemonConfig, plugins: Plugins) -> tuple[DaemonConfig, str]:
    """The settings with the store that is meant, and why that one."""
    if words := _given(settings, plugins, "flag", "environment"):
        return config, f"by {words}"
    try:
        told = Client(config.run_dir).get("store")
    except (NotRunning, ApiError) as error:
        if isinstance(error, ApiError) and error.status == FORBIDDEN:
            raise ApiError(FORBIDDEN, f"{error}, or name the store by its flags") from error
        if words := _given(settings, plugins, "file"):
            return config, f"by {words}"
        return _of_last(config)
    because = f"of the tulled that runs at {config.run_dir}"
    if told.get("by_default"):
        because += f"; {SINGLE_MACHINE}"
    return _with_store(config, told["store"], told["settings"], told["prefix"]), because


def _given(settings: Settings, plugins: Plugins, *kinds: str) -> str:
    """Where the store, or a setting of it, is from, if from one of these kinds of sources: "--sqlite-file",
    "TULLED_STORE", "/etc/tulle/tulled.toml". "" where it is not."""
    assert settings.config is not None
    of_it = plugins.store_choice(settings.config.store).options
    for name in ("store", *(one.name for one in of_it)):
        kind, _, where = settings.parsed.sources[name].partition(" ")
        if kind in kinds:
            return where or f"--{name}"
    return ""


def _of_last(config: DaemonConfig) -> tuple[DaemonConfig, str]:
    """What the last tulled of the run directory used (without its secrets), else the embedded store."""
    record = RunDir(config.run_dir).record()
    if record is None:
        return config, f"{SINGLE_MACHINE}; no tulled answers at {config.run_dir}"
    because = f"of the last tulled at {config.run_dir}; none answers now"
    settings = {name: value for name, value in config.store_settings.items() if value is not None}
    if (record.store, record.store_settings) == (
        config.store,
        settings,
    ):  # what is taken where nothing is said
        because += f"; {SINGLE_MACHINE}"
    return _with_store(config, record.store, record.store_settings, record.store_prefix), because


def _with_store(config: DaemonConfig, store: str, settings: Mapping[str, Any], prefix: str) -> DaemonConfig:
    return msgspec.structs.replace(
        config, store=store, store_settings=dict(settings), prefix=prefix, store_default=False
    )
