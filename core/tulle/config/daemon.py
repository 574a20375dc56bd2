"""What this node is: the checked, frozen result of all of tulled's settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import msgspec

from tulle.config.checks import Checks, with_directories
from tulle.config.core_options import CORE_OPTIONS as CORE_OPTIONS
from tulle.config.errors import HIDDEN, ConfigError
from tulle.config.flags import Parsed
from tulle.config.groups import all_options, option_groups
from tulle.contracts.specs import OptionSpec, StoreChoice
from tulle.net.prefix import Address, Family

_AS_TEXT = {"subnet_file", "state_dir", "run_dir", "healthz_ip"}


class DaemonConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What this node is. No field is read again from anywhere."""

    node_name: str
    prefix: str
    """Of all keys in the store: "/coreos.com/network", with a slash before it and none behind."""
    store: str
    """Its name, or that of the subnet manager in its place."""
    store_settings: dict[str, Any]
    """The values of the store's own options, by name."""
    store_default: bool
    """True where nothing chose the store: it is the embedded one."""
    interfaces: tuple[str, ...]
    """Names or addresses, in order of preference. Where neither these nor the next two are given, the interface of the
    default route is taken."""
    interface_patterns: tuple[str, ...] = ()
    """Regular expressions that `compile_regexp` takes."""
    can_reach: tuple[Address, ...] = ()
    """Addresses; the way to them is the interface."""
    public: dict[Family, Address]
    """What --public-ip and --public-ipv6 say; families that they leave out are absent."""
    subnet_file: Path
    state_dir: Path
    run_dir: Path
    engine: str
    verbosity: int
    renew_margin_s: float
    healthz_ip: Address = IPv4Address(0)
    """Where /healthz, /readyz and /metrics are served."""
    healthz_port: int = 0
    """0: not served."""
    log_format: str = "text"
    """"text" or "json"."""
    options: dict[str, Any]
    """The values of all other options (those of plugins that are no store), by name."""
    inactive: dict[str, str] = {}
    """Options that were given and have no effect, and the part that is not there yet."""
    secrets: frozenset[str]
    """Names of the options whose value must not be shown."""

    def shown(self) -> dict[str, Any]:
        """JSON-ready, for status and log: secrets hidden."""
        out: dict[str, Any] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name in {"store_settings", "options"}:
                out[name] = {
                    key: HIDDEN if key in self.secrets and item is not None else item
                    for key, item in value.items()
                }
            elif name == "public":
                out[name] = {str(family): str(address) for family, address in value.items()}
            elif name == "can_reach":
                out[name] = [str(address) for address in value]
            elif name != "secrets":
                out[name] = str(value) if name in _AS_TEXT else value
        return out

    def __repr__(self) -> str:
        return f"DaemonConfig({self.shown()!r})"

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # the base names no type
        yield from self.shown().items()


def daemon_options(
    store_specs: Sequence[StoreChoice], others: Sequence[OptionSpec] = ()
) -> tuple[OptionSpec, ...]:
    """Core's options, the stores', those of other plugins and the inactive ones, each name once. Raises ValueError
    where two that differ have one name."""
    of_stores = (one for spec in store_specs for one in spec.options)
    return all_options(option_groups(("", one) for one in (*of_stores, *others)))


def daemon_config(
    parsed: Parsed,
    store_specs: Sequence[StoreChoice],
    *,
    hostname: str,
    engines: Collection[str] | None = None,
) -> DaemonConfig:
    """`parsed` from `daemon_options`; `engines`: the names that --engine may give beside "auto", None: any.
    "{state-dir}" and "{run-dir}" in a default are replaced. Raises ConfigError with all problems."""
    checks = Checks(parsed)
    spec, store_default = checks.store(store_specs)
    values = with_directories(parsed)
    checks.inactive()
    of_stores = {option.name for one in store_specs for option in one.options}
    of_core = {option.name for option in CORE_OPTIONS}
    of_nobody = parsed.without_effect
    config = DaemonConfig(
        node_name=checks.node_name(hostname),
        prefix=checks.prefix(),
        store=spec.name if spec else "",
        store_settings={option.name: values[option.name] for option in spec.options} if spec else {},
        store_default=store_default,
        interfaces=checks.interfaces(),
        interface_patterns=checks.interface_patterns(),
        can_reach=checks.can_reach(),
        public=checks.public(),
        subnet_file=checks.path("subnet-file"),
        state_dir=checks.path("state-dir"),
        run_dir=checks.path("run-dir"),
        engine=checks.engine(engines),
        verbosity=checks.verbosity(),
        renew_margin_s=checks.renew_margin_s(),
        healthz_ip=checks.healthz_ip(),
        healthz_port=checks.healthz_port(),
        log_format=checks.log_format(),
        options={
            name: value for name, value in values.items() if name not in of_stores | of_core | of_nobody
        },
        inactive=parsed.inactive,
        secrets=parsed.secrets,
    )
    if checks.problems:
        raise ConfigError(checks.problems, "the settings of tulled")
    return config
