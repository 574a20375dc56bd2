"""Finding plugins, and what they provide. A broken plugin is reported by name and reason and skipped.

Everything goes through entry points, also what ships with tulle. Nothing heavy is imported: hooks return specs that
name their factories.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any, TypeVar

import msgspec
import pluggy

from tulle import hookspecs
from tulle.config.core_options import CORE_OPTIONS
from tulle.config.groups import Group, option_groups
from tulle.contracts.specs import (
    ApiMethod,
    BackendSpec,
    ComponentSpec,
    ConfigSection,
    DoctorCheck,
    EncapsulationSpec,
    EngineSpec,
    OptionSpec,
    Spec,
    StoreChoice,
    StoreSpec,
    SubnetManagerSpec,
    load,
)

log = logging.getLogger("tulle.plugins")

GROUP = "tulle"
HOOK_KINDS = {
    "tulle_backends": "backend",
    "tulle_encapsulations": "encapsulation",
    "tulle_engines": "engine",
    "tulle_stores": "store",
    "tulle_subnet_managers": "subnet-manager",
    "tulle_components": "component",
    "tulle_commands": "command",
    "tulle_options": "option",
    "tulle_config_sections": "config-section",
    "tulle_api_methods": "api-method",
    "tulle_doctor_checks": "doctor-check",
}
SPEC_TYPES: dict[str, type[msgspec.Struct]] = {
    "tulle_backends": BackendSpec,
    "tulle_encapsulations": EncapsulationSpec,
    "tulle_engines": EngineSpec,
    "tulle_stores": StoreSpec,
    "tulle_subnet_managers": SubnetManagerSpec,
    "tulle_components": ComponentSpec,
    "tulle_options": OptionSpec,
    "tulle_config_sections": ConfigSection,
    "tulle_api_methods": ApiMethod,
    "tulle_doctor_checks": DoctorCheck,
}
"""What each hook returns a sequence of. (Commands are click's, which only the command line loads.)"""

S = TypeVar("S", bound=Spec)


class PluginError(Exception):
    """The configuration asks for something that no working plugin provides. The text says what to do."""


class PluginInfo(msgspec.Struct, kw_only=True):
    """One line of `tulle plugins list`."""

    name: str
    version: str
    kinds: list[str] = []
    hooks: list[str] = []
    provides: list[str] = []
    origin: str = ""
    error: str = ""


class Plugins:
    """The loaded plugins. Make one with `load_plugins()`."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.infos: list[PluginInfo] = []
        self._modules: dict[str, object] = {}
        self._collected: dict[str, list[tuple[PluginInfo, Any]]] = {}
        self._flags = {option.name: (option, "core") for option in CORE_OPTIONS}

    def add(self, info: PluginInfo, module: object) -> None:
        """Register a module's hooks; what is wrong with them ends up in `info.error`."""
        self.infos.append(info)
        if self.manager.has_plugin(info.name):
            self._fail(info, ValueError(f"there is another plugin of the name {info.name!r}"))
            return
        try:
            self.manager.register(module, info.name)
            self.manager.check_pending()
        except Exception as error:
            self._fail(info, error)
            if self.manager.has_plugin(info.name):
                self.manager.unregister(name=info.name)
            return
        self._modules[info.name] = module
        callers = self.manager.get_hookcallers(module) or []
        info.hooks = sorted(caller.name for caller in callers)
        info.kinds = [kind for hook, kind in HOOK_KINDS.items() if hook in info.hooks]
        if not info.hooks:
            info.error = "implements no hook of tulle"

    def add_broken(self, info: PluginInfo, error: BaseException) -> None:
        self.infos.append(info)
        self._fail(info, error)

    def _fail(self, info: PluginInfo, error: BaseException) -> None:
        info.error = f"{type(error).__name__}: {error}"
        log.warning("plugin-broken name=%s origin=%s error=%s (skipped)", info.name, info.origin, info.error)

    def collect(self, hook: str) -> list[tuple[PluginInfo, Any]]:
        """Everything the working plugins return for a hook, with the plugin it is from. Called once a hook."""
        if hook not in self._collected:
            self._collected[hook] = list(self._call(hook))
        return self._collected[hook]

    def _call(self, hook: str) -> Iterable[tuple[PluginInfo, Any]]:
        taken: dict[str, str] = {}
        for info in self.infos:
            if info.error or hook not in info.hooks:
                continue
            others = [module for name, module in self._modules.items() if name != info.name]
            try:
                found = [one for many in self.manager.subset_hook_caller(hook, others)() for one in many]
                self._check(hook, found, taken, info)
            except Exception as error:
                self._fail(info, error)
                continue
            for one in found:
                yield info, one

    def _check(self, hook: str, found: Sequence[Any], taken: dict[str, str], info: PluginInfo) -> None:
        """Raises TypeError or ValueError, and then takes nothing of what was found."""
        wanted = SPEC_TYPES.get(hook)
        if wanted is None:
            return
        names: dict[str, str] = {}
        flags: dict[str, tuple[OptionSpec, str]] = {}
        for spec in found:
            if not isinstance(spec, wanted):
                raise TypeError(f"{hook} returned {type(spec).__name__}, wanted {wanted.__name__}")
            for name in _names(spec):
                if name in taken or name in names:
                    owner = taken.get(name, info.name)
                    raise ValueError(f"{HOOK_KINDS[hook]} {name!r} is already provided by plugin {owner!r}")
                names[name] = info.name
            for option in _flags(spec):
                known, owner = (self._flags | flags).setdefault(option.name, (option, info.name))
                if known != option:
                    raise ValueError(f"flag --{option.name} is already provided by {owner}, in another way")
                flags[option.name] = (option, info.name)
        taken.update(names)
        self._flags |= flags
        info.provides.extend(f"{HOOK_KINDS[hook]}:{_names(spec)[0]}" for spec in found)

    def specs(self, hook: str, kind: type[S]) -> list[S]:
        """All specs of one hook, typed."""
        return [spec for _, spec in self.collect(hook) if isinstance(spec, kind)]

    def stores(self) -> list[StoreSpec]:
        return self.specs("tulle_stores", StoreSpec)

    def store_choices(self) -> list[StoreChoice]:
        """What --store may name: the stores, then the subnet managers. Raises PluginError where one of each has the
        same name."""
        owners = {name: info.name for info, spec in self.collect("tulle_stores") for name in _names(spec)}
        for info, spec in self.collect("tulle_subnet_managers"):
            for name in _names(spec):
                if name in owners:
                    raise PluginError(
                        f"--store {name}: plugin {owners[name]!r} provides a store of this name, and plugin "
                        f"{info.name!r} a subnet manager; nobody can tell which is meant: remove one of the two"
                    )
        return [*self.stores(), *self.specs("tulle_subnet_managers", SubnetManagerSpec)]

    def store_choice(self, name: str) -> StoreChoice:
        """The one of that name or alias. Raises PluginError that says what there is and what is broken."""
        for spec in self.store_choices():
            if name.lower() in (spec.name, *spec.aliases):
                return spec
        return self.find("tulle_stores", StoreSpec, name, "--store")

    def engines(self) -> list[EngineSpec]:
        """Best first."""
        return sorted(self.specs("tulle_engines", EngineSpec), key=lambda spec: -spec.rank)

    def options(self) -> list[tuple[PluginInfo, OptionSpec]]:
        """Every flag that a plugin adds to tulled."""
        found: list[tuple[PluginInfo, OptionSpec]] = list(self.collect("tulle_options"))
        for hook in ("tulle_stores", "tulle_subnet_managers"):
            found += [(info, option) for info, spec in self.collect(hook) for option in spec.options]
        return found

    def option_groups(self) -> tuple[Group, ...]:
        """Every flag of tulled, by whose it is. Raises ValueError where two plugins want one name in different ways."""
        return option_groups((info.name, option) for info, option in self.options())

    def find(self, hook: str, kind: type[S], name: str, asked_by: str) -> S:
        """The spec of that name or alias. Raises PluginError that names what there is and what is broken."""
        wanted = name.lower()
        for spec in self.specs(hook, kind):
            if wanted == spec.name or wanted in spec.aliases:
                return spec
        known = ", ".join(sorted(spec.name for spec in self.specs(hook, kind))) or "none"
        broken = "; ".join(
            f"plugin {info.name} is broken ({info.error})" for info in self.infos if info.error
        )
        message = f"{asked_by}: no plugin provides {HOOK_KINDS[hook]} {name!r}. There are: {known}."
        raise PluginError(f"{message} {broken}" if broken else f"{message} See `tulle plugins list`.")

    def make(self, spec: Spec, *arguments: Any) -> Any:
        """Import a spec's factory and call it. Raises ValueError as the factory does (wrong settings), and PluginError
        for everything else that fails."""
        try:
            factory = load(spec.factory)
        except Exception as error:
            raise PluginError(
                f"{spec.name}: its code {spec.factory} cannot be loaded ({type(error).__name__}: {error}). "
                "Install what it needs, or choose another."
            ) from error
        try:
            return factory(*arguments)
        except ValueError:
            raise
        except Exception as error:
            raise PluginError(
                f"{spec.name}: its code {spec.factory} failed ({type(error).__name__}: {error}). "
                "This is a fault of the plugin: report it, or choose another."
            ) from error


def load_plugins(found: Iterable[EntryPoint] | None = None) -> Plugins:
    """Load every entry point of the group. Nothing a plugin does wrong is raised."""
    plugins = Plugins()
    for info, entry in _described(entry_points(group=GROUP) if found is None else found):
        try:
            module = entry.load()
        except (Exception, SystemExit) as error:
            plugins.add_broken(info, error)
        else:
            plugins.add(info, module)
    return plugins


def _described(entries: Iterable[EntryPoint]) -> list[tuple[PluginInfo, EntryPoint]]:
    """In the order of loading: what ships with tulle keeps its names, whoever else claims them."""
    read: dict[
        Distribution, tuple[str, str]
    ] = {}  # each look at a distribution's name parses its whole metadata
    found = []
    for entry in entries:
        name, version, origin = "", "", entry.value
        if entry.dist is not None:
            if entry.dist not in read:
                read[entry.dist] = _name_and_version(entry.dist)
            name, version = read[entry.dist]
            origin = f"{name} ({entry.value})"
        info = PluginInfo(name=entry.name, version=version, origin=origin)
        found.append(((name != "tulle", entry.name), info, entry))
    return [(info, entry) for _, info, entry in sorted(found, key=lambda one: one[0])]


def _name_and_version(dist: Distribution) -> tuple[str, str]:
    """Empty where the metadata, which anybody may have damaged, do not say."""
    metadata = dist.metadata
    name, version = (str(metadata[key]) if key in metadata else "" for key in ("Name", "Version"))
    return name, version


def _names(spec: Any) -> tuple[str, ...]:
    """What no other of its kind may be called."""
    if isinstance(spec, ApiMethod):
        return (f"{spec.verb} {spec.path}",)
    return (spec.name, *(spec.aliases if isinstance(spec, Spec) else ()))


def _flags(spec: Any) -> tuple[OptionSpec, ...]:
    if isinstance(spec, OptionSpec):
        return (spec,)
    return spec.options if isinstance(spec, StoreChoice) else ()
