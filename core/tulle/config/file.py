"""The config file: TOML whose keys are flags' names, with "-" or "_". A table holds the flags of the plugin it is named
after. Pure: bytes in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tulle.config.errors import ConfigError, ConfigProblem, printable
from tulle.config.groups import CORE, Group

NOT_IN_FILE = {"config-file": "cannot be set by the file itself", "check": "is an order and no setting"}


def parse_settings(data: bytes, name: str, groups: Sequence[Group]) -> dict[str, Any]:
    """The file's values by option name; keys that no option has are kept as they are, for `parse_flags` to name.

    `name` of the file, for messages. Raises ConfigError: not TOML (with line and column), or misplaced keys."""
    problems: list[ConfigProblem] = []
    values: dict[str, Any] = {}
    for key, value in _toml(data, name).items():
        group = next((one for one in groups if one.name == key and key != CORE), None)
        if isinstance(value, dict) and group is not None:
            _take_table(values, group, value, name, problems)
        else:
            _take(values, key, value, _by_folded(groups), name, problems)
    if problems:
        raise ConfigError(problems, "the config file")
    return values


def _toml(data: bytes, name: str) -> dict[str, Any]:
    import tomllib  # only where there is a file: `--help` is to be quick

    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        wrong = f"is not UTF-8 text (at line {line}, column {column})"
    except tomllib.TOMLDecodeError as error:
        wrong = f"is not TOML: {error}"
    except RecursionError:
        wrong = "is not TOML that can be read: it is nested too deeply"
    raise ConfigError([ConfigProblem(name, None, 'lines such as node-name = "n1"', wrong)], "the config file")


def _by_folded(groups: Sequence[Group]) -> dict[str, str]:
    return {_folded(option.name): option.name for group in groups for option in group.options}


def _folded(key: str) -> str:
    return key.replace("_", "-")


def _take(
    values: dict[str, Any],
    key: str,
    value: Any,
    known: Mapping[str, str],
    name: str,
    problems: list[ConfigProblem],
) -> None:
    option = known.get(_folded(key), key)
    where = f"{name}: {printable(key)}"
    if option in NOT_IN_FILE:
        problems.append(ConfigProblem(where, None, f"it as a flag, --{option}=...", NOT_IN_FILE[option]))
    elif option in values:
        problems.append(ConfigProblem(where, None, "it once", "stands there twice"))
    else:
        values[option] = value


def _take_table(
    values: dict[str, Any], group: Group, table: dict[str, Any], name: str, problems: list[ConfigProblem]
) -> None:
    """A key behind `[table]` belongs to the table, which is easily overlooked."""
    known = _by_folded([group])
    for key, value in table.items():
        if _folded(key) in known:
            _take(values, key, value, known, name, problems)
            continue
        there = ", ".join(known.values())
        expected = f"one of {there}; a setting of another part has to stand above the first [table]"
        where = f"{name}: [{group.name}] {printable(key)}"
        problems.append(ConfigProblem(where, None, expected, f"is not a setting of plugin {group.name}"))
