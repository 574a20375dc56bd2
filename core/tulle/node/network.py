"""The network config as a whole: its own fields, the backend's options and the plugins' sections, all checked at once,
before anything is changed."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec

from tulle.config.errors import ConfigError, ConfigProblem
from tulle.config.network import NetworkConfig, parse_network_config
from tulle.config.options import convert_options
from tulle.contracts.specs import BackendSpec, ConfigSection
from tulle.plugins import PluginError, Plugins


class Network(msgspec.Struct, frozen=True):
    """A network config that this node can carry out."""

    config: NetworkConfig
    backend: BackendSpec
    options: Any
    """Of the backend's own type; None where it has none."""
    sections: dict[str, Any]
    """Each plugin's settings, of its own type."""
    warnings: tuple[str, ...]


def check_network(text: bytes | str, plugins: Plugins) -> Network:
    """Raises ConfigError with everything that is wrong."""
    problems: list[ConfigProblem] = []
    try:
        config = parse_network_config(text)
    except ConfigError as error:
        problems += error.problems
        config = _without_networks(text)
    warnings = list(config.warnings)
    backend, options = _backend(config, plugins, problems, warnings)
    sections = _sections(config, plugins, problems, warnings)
    if problems or backend is None:
        raise ConfigError(problems, "the network config")
    return Network(config, backend, options, sections, tuple(warnings))


def _without_networks(text: bytes | str) -> NetworkConfig:
    """Where core's own fields are wrong: what else can be checked, so that it is reported in the same go."""
    rest: dict[str, Any] = {"Network": "10.0.0.0/8"}
    with contextlib.suppress(ValueError, RecursionError):
        raw = json.loads(text)
        if isinstance(raw, dict):
            rest |= {key: value for key, value in raw.items() if key.lower() in ("backend", "tulle")}
    try:
        return parse_network_config(json.dumps(rest))
    except ConfigError:  # these were wrong themselves, and have been reported
        return parse_network_config('{"Network": "10.0.0.0/8"}')


def _backend(
    config: NetworkConfig, plugins: Plugins, problems: list[ConfigProblem], warnings: list[str]
) -> tuple[BackendSpec | None, Any]:
    try:
        spec = plugins.find("tulle_backends", BackendSpec, config.backend_type, "Backend.Type")
    except PluginError:
        known = ", ".join(sorted(one.name for one in plugins.specs("tulle_backends", BackendSpec)))
        broken = [f"{one.name} ({one.error})" for one in plugins.infos if one.error]
        wrong = "is no backend that is installed here" + (
            f"; broken plugins: {', '.join(broken)}" if broken else ""
        )
        problems.append(ConfigProblem("Backend.Type", repr(config.backend_type), f"one of {known}", wrong))
        return None, None
    if spec.options is None:
        warnings += [_unknown(f"Backend.{key}") for key in config.backend_options]
        return spec, None
    try:
        options, unknown = convert_options(spec.options, config.backend_options)
    except ConfigError as error:
        problems += error.problems
        return spec, None
    warnings += [_unknown(f"Backend.{key}") for key in unknown]
    return spec, options


def _sections(
    config: NetworkConfig, plugins: Plugins, problems: list[ConfigProblem], warnings: list[str]
) -> dict[str, Any]:
    types = {
        one.name: one.type
        for _, one in plugins.collect("tulle_config_sections")
        if isinstance(one, ConfigSection)
    }
    found: dict[str, Any] = {}
    for name, raw in config.sections.items():
        if name not in types:
            warnings.append(f"Tulle.{name}: no plugin of that name takes settings; they are kept")
            continue
        try:
            found[name], unknown = convert_options(types[name], raw, f"Tulle.{name}")
        except ConfigError as error:
            problems += error.problems
        else:
            warnings += [_unknown(f"Tulle.{name}.{key}") for key in unknown]
    return found


def _unknown(key: str) -> str:
    return f"{key}: unknown here, and kept"
