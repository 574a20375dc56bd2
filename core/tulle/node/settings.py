"""tulled's settings from all their sources: command line, environment and the config file that they name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tulle.config.core_options import CONFIG_FILE
from tulle.config.daemon import DaemonConfig, daemon_config
from tulle.config.errors import ConfigError, ConfigProblem, shown
from tulle.config.file import parse_settings
from tulle.config.flags import Parsed, parse_flags, peek
from tulle.config.groups import Group, all_options, option_groups
from tulle.plugins import PluginError, Plugins


class Settings(msgspec.Struct, frozen=True):
    """What they came to."""

    groups: tuple[Group, ...]
    parsed: Parsed
    config: DaemonConfig | None
    """None where help or version is asked for."""
    file: str | None = None
    """The config file that was read."""


class _File(msgspec.Struct, frozen=True):
    name: str | None = None
    values: Mapping[str, Any] = {}


def gather(
    plugins: Plugins, argv: Sequence[str], environ: Mapping[str, str], default_file: str = CONFIG_FILE
) -> Settings:
    """Reads the config file, nothing else. Raises ConfigError with the problems of all sources, and PluginError where a
    plugin's flag cannot be one."""
    try:
        return _gather(plugins, argv, environ, default_file)
    except ValueError as error:
        raise PluginError(f"{error}. This is a fault of the plugin that has the flag: remove it.") from error


def _gather(plugins: Plugins, argv: Sequence[str], environ: Mapping[str, str], default_file: str) -> Settings:
    groups = option_groups((info.name, option) for info, option in plugins.options())
    options = all_options(groups)
    problems: list[ConfigProblem] = []
    file = _read(groups, argv, environ, default_file, problems)
    try:
        parsed = parse_flags(options, argv, environ, file.values, file_name=file.name or "")
        if parsed.asked:
            return Settings(groups, parsed, None)
        engines = [spec.name for spec in plugins.engines()]
        config = daemon_config(parsed, plugins.store_choices(), hostname=os.uname().nodename, engines=engines)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems], error.what) from None
    if problems:
        raise ConfigError(problems, "the settings of tulled")
    return Settings(groups, parsed, config, file.name)


def _read(
    groups: Sequence[Group],
    argv: Sequence[str],
    environ: Mapping[str, str],
    default_file: str,
    problems: list[ConfigProblem],
) -> _File:
    """A file that was asked for has to be there; the default one need not."""
    asked: str | None = peek(all_options(groups), argv, environ, "config-file")
    name = default_file if asked is None else asked
    if not name:
        return _File()
    try:
        return _File(name, parse_settings(Path(name).read_bytes(), name, groups))
    except FileNotFoundError:
        if asked is not None:
            problems.append(_unreadable(name, "is not there"))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else error
        problems.append(_unreadable(name, f"cannot be read ({reason})"))
    except ConfigError as error:
        problems += error.problems
    return _File()


def _unreadable(name: str, wrong: str) -> ConfigProblem:
    expected = "the path of a file in TOML that tulled may read, or --config-file= for none"
    return ConfigProblem("--config-file", shown(name), expected, wrong)
