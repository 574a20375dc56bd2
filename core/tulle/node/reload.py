"""SIGHUP: the settings are read again. What can change while tulled runs does; what else has changed is named.

Command line and environment of a process stay what they are, so it is the config file that brings news.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tulle.config.daemon import DaemonConfig
from tulle.config.errors import ConfigError
from tulle.config.flags import Parsed
from tulle.node.daemon import Daemon
from tulle.node.logs import Log
from tulle.node.settings import Settings
from tulle.plugins import PluginError

log = logging.getLogger("tulle.node")

LIVE = frozenset({"v", "log-format", "healthz-ip", "healthz-port"})
"""Options that change while tulled runs."""


class Changes(msgspec.Struct, frozen=True):
    """What is different, by option name, sorted."""

    live: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    """Their new values have to wait for a restart."""


def changes(in_use: Mapping[str, Any], new: Parsed) -> Changes:
    """Pure. What has no effect anyway needs no restart."""
    differ = sorted(name for name, value in new.values.items() if in_use.get(name) != value)
    return Changes(
        live=tuple(name for name in differ if name in LIVE),
        restart=tuple(name for name in differ if name not in LIVE | new.without_effect),
    )


class Reloader:
    """`settings` are those in use; `gather` reads all of them again."""

    def __init__(
        self, settings: Settings, gather: Callable[[], Settings], lines: Log, daemon: Daemon
    ) -> None:
        self._in_use = dict(settings.parsed.values)
        self._gather = gather
        self._lines = lines
        self._daemon = daemon

    async def reload(self) -> None:
        """A file that is wrong is said to be, and everything stays as it is."""
        with self._daemon.reloading():
            try:
                settings = self._gather()
            except (ConfigError, PluginError) as error:
                log.error("reload-failed %s; nothing is changed", error)
                return
            assert settings.config is not None  # only --help and --version come without
            await self._take_over(settings.parsed, settings.config)

    async def _take_over(self, new: Parsed, config: DaemonConfig) -> None:
        found = changes(self._in_use, new)
        if {"v", "log-format"} & set(found.live):
            self._lines.change(config.verbosity, config.log_format)
        try:
            await self._daemon.reload(config)
        except OSError as error:
            log.error("reload-failed %s", error)
            return
        self._in_use |= {name: new.values[name] for name in LIVE}
        log.info("reloaded changed=%s", _flags(found.live))
        if found.restart:
            log.warning(
                "restart-needed %s: changed in the config file, in use when tulled is started again",
                _flags(found.restart),
            )


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name}" for name in names) or "nothing"
