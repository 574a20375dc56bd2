"""What `tulled --check` prints: every setting as it takes effect, and where it is from. Secrets are hidden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tulle.config.checks import with_directories
from tulle.config.daemon import DaemonConfig
from tulle.config.errors import HIDDEN
from tulle.config.flags import Parsed
from tulle.config.groups import CORE, Group
from tulle.contracts.specs import OptionSpec, StoreChoice

_SHOWN_WIDTH = 60
"""A longer value pushes only its own line's source to the right."""


class Setting(msgspec.Struct, frozen=True):
    """One line of it."""

    name: str
    value: Any
    """JSON-ready, in a form that a flag or the file takes; None: not set."""
    source: str
    """ "flag", "environment NAME", "file NAME", "default", "host name", or what chose the store."""
    group: str
    """ "core", the plugin's name, or "" for what nothing carries out."""
    note: str = ""
    """Why it has no effect, where it was given and has none."""


def effective(
    groups: Sequence[Group], parsed: Parsed, config: DaemonConfig, stores: Sequence[StoreChoice]
) -> tuple[Setting, ...]:
    """Every option, in the order of the groups. `config` is what came of `parsed`."""
    values = with_directories(parsed)
    values |= {"node-name": config.node_name, "store": config.store, "etcd-prefix": config.prefix}
    idle = unused(parsed, config, stores)
    found = []
    for group in groups:
        for option in sorted(group.options, key=lambda one: one.name):
            value = _shown(option, values[option.name])
            source = _source(option.name, parsed, config, stores)
            note = _note(option, parsed, idle, config)
            found.append(Setting(option.name, value, source, group.name, note))
    return tuple(found)


def unused(parsed: Parsed, config: DaemonConfig, stores: Sequence[StoreChoice]) -> dict[str, str]:
    """Options that were given and are another store's than the one in use: name -> that store's name. A switch that is
    given as off asks for nothing."""
    used = {option.name for spec in stores if spec.name == config.store for option in spec.options}
    return {
        option.name: spec.name
        for spec in stores
        for option in spec.options
        if option.name in parsed.given - used and parsed.values[option.name] is not False
    }


def _source(name: str, parsed: Parsed, config: DaemonConfig, stores: Sequence[StoreChoice]) -> str:
    source = parsed.sources[name]
    if source == "default" and name == "node-name":
        return "host name"
    if source == "default" and name == "store" and not config.store_default:
        chosen_by = next(spec.chosen_by for spec in stores if spec.name == config.store)
        return "chosen by " + ", ".join(f"--{one}" for one in chosen_by if one in parsed.given)
    return source


def _note(option: OptionSpec, parsed: Parsed, idle: Mapping[str, str], config: DaemonConfig) -> str:
    if option.name in idle:
        return f"not used: the store is {config.store}"
    if option.inactive and option.name in parsed.given:
        return f"no effect: this tulle has no {option.inactive} yet"
    return ""


def _shown(option: OptionSpec, value: Any) -> Any:
    if value is None:
        return None
    if option.secret:
        return HIDDEN
    if option.kind == "duration":
        return f"{value / 60:g}m" if value % 60 == 0 else f"{value:g}s"
    return list(value) if isinstance(value, tuple) else value


def as_json(settings: Sequence[Setting], config_file: str | None) -> str:
    """One object on one line."""
    rows = {one.name: {key: getattr(one, key) for key in _COLUMNS} for one in settings}
    return msgspec.json.encode({"config_file": config_file, "settings": rows}).decode()


_COLUMNS = ("value", "source", "group", "note")


def as_text(settings: Sequence[Setting], config_file: str | None) -> str:
    """A table for people, the groups below each other."""
    wide = max(len(one.name) for one in settings) + 2
    values = {one.name: _text(one.value) for one in settings}
    value_wide = max(len(value) for value in values.values() if len(value) <= _SHOWN_WIDTH)
    lines = [f"The settings can be used. Config file: {config_file or 'none'}."]
    group: str | None = None
    for one in settings:
        if one.group != group:
            group = one.group
            lines += ["", _title(group)]
        note = f"; {one.note}" if one.note else ""
        lines.append(f"  --{one.name:<{wide}}{values[one.name]:<{value_wide}}  {one.source}{note}")
    return "\n".join(lines) + "\n"


def _title(group: str) -> str:
    if group == CORE:
        return "tulled:"
    return f"plugin {group}:" if group else "without effect yet:"


def _text(value: Any) -> str:
    """As on a command line; what would not be seen there is quoted."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return "".join(_joined(value)) or "-"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if text.isprintable() and text.strip() == text != "" else ascii(text)


def _joined(items: list[Any]) -> Iterator[str]:
    for number, item in enumerate(items):
        yield (", " if number else "") + _text(item)
