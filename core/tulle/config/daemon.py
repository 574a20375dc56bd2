"""What this node is: core's own flags, and the checked, frozen result of all of tulled's settings.

A name of a flag is a promise to the users of flannel where flannel has it too; those read FLANNELD_... as
well.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import msgspec

from tulle.config.errors import HIDDEN, ConfigError, ConfigProblem, nearest, shown
from tulle.config.flags import Parsed
from tulle.contracts.specs import OptionSpec, StoreSpec
from tulle.net.prefix import Address, Family

CORE_OPTIONS = (
    OptionSpec(
        name="etcd-prefix",
        default="/coreos.com/network",
        flannel=True,
        help="where the cluster's keys lie in the store, whichever store it is",
    ),
    OptionSpec(
        name="iface",
        kind="list",
        flannel=True,
        help="interface, or address of one, that leads to the other nodes; the first that exists is taken",
    ),
    OptionSpec(name="public-ip", flannel=True, help="IPv4 address at which other nodes reach this one"),
    OptionSpec(name="public-ipv6", flannel=True, help="IPv6 address at which other nodes reach this one"),
    OptionSpec(
        name="subnet-file",
        default="/run/flannel/subnet.env",
        flannel=True,
        help="file that tells CNI plugins and Docker this node's subnet and MTU",
    ),
    OptionSpec(
        name="subnet-lease-renew-margin",
        kind="duration",
        default=60,
        flannel=True,
        help="the lease's time left never falls below this; minutes from 1 to 1439",
    ),
    OptionSpec(name="v", kind="int", default=0, flannel=True, help="log level; higher says more"),
    OptionSpec(
        name="store", help="where the cluster's truth lies, by name; default: by the flags that are given"
    ),
    OptionSpec(name="node-name", help="this node's name, unique in the cluster; default: the host name"),
    OptionSpec(name="state-dir", default="/var/lib/tulle", help="directory for what outlives a reboot"),
    OptionSpec(name="run-dir", default="/run/tulle", help="directory for sockets"),
    OptionSpec(name="engine", default="auto", help="what moves packets: auto, python, native or a plugin's"),
)

RENEW_MARGIN_S = (60.0, 1439 * 60.0)
"""The least and the most, flannel's: the lease lives 1440 minutes."""

_NAME_CHARACTERS = 253  # of a domain name, RFC 1035 section 2.3.4
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)  # RFC 1123 section 2.1
_PLUGIN_NAME = re.compile(r"[a-z0-9][a-z0-9-]*", re.ASCII)
_LINK_NAME = re.compile(r"[^\s/\x00]{1,15}")  # IFNAMSIZ is 16 with the zero byte at its end


class DaemonConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What this node is. No field is read again from anywhere."""

    node_name: str
    prefix: str
    """Of all keys in the store: "/coreos.com/network", with a slash before it and none behind."""
    store: str
    store_settings: dict[str, Any]
    """The values of the store's own options, by name."""
    store_default: bool
    """True where nothing chose the store: it is the embedded one."""
    interfaces: tuple[str, ...]
    """Names or addresses, in order of preference; empty: take the one of the default route."""
    public: dict[Family, Address]
    """What --public-ip and --public-ipv6 say; families that they leave out are absent."""
    subnet_file: Path
    state_dir: Path
    run_dir: Path
    engine: str
    verbosity: int
    renew_margin_s: float
    options: dict[str, Any]
    """The values of all other options (those of plugins that are no store), by name."""
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
            elif name != "secrets":
                out[name] = str(value) if isinstance(value, Path) else value
        return out

    def __repr__(self) -> str:
        return f"DaemonConfig({self.shown()!r})"

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # the base names no type
        yield from self.shown().items()


def daemon_options(
    store_specs: Sequence[StoreSpec], others: Sequence[OptionSpec] = ()
) -> tuple[OptionSpec, ...]:
    """Core's options, the stores' and those of other plugins, each name once. Raises ValueError where two
    that differ have one name."""
    found: dict[str, OptionSpec] = {}
    for option in (*CORE_OPTIONS, *(one for spec in store_specs for one in spec.options), *others):
        if found.setdefault(option.name, option) != option:
            raise ValueError(
                f"two plugins want a flag --{option.name}, each in its own way: remove one of them"
            )
    return tuple(found.values())


def daemon_config(
    parsed: Parsed,
    store_specs: Sequence[StoreSpec],
    *,
    hostname: str,
    engines: Collection[str] | None = None,
) -> DaemonConfig:
    """`parsed` from `daemon_options`; `engines`: the names that --engine may give beside "auto", None: any.
    "{state-dir}" and "{run-dir}" in a default are replaced. Raises ConfigError with all problems."""
    checks = _Checks(parsed)
    spec, store_default = checks.store(store_specs)
    values = checks.with_directories()
    of_stores = {option.name for one in store_specs for option in one.options}
    of_core = {option.name for option in CORE_OPTIONS}
    config = DaemonConfig(
        node_name=checks.node_name(hostname),
        prefix=checks.prefix(),
        store=spec.name if spec else "",
        store_settings={option.name: values[option.name] for option in spec.options} if spec else {},
        store_default=store_default,
        interfaces=checks.interfaces(),
        public=checks.public(),
        subnet_file=checks.path("subnet-file"),
        state_dir=checks.path("state-dir"),
        run_dir=checks.path("run-dir"),
        engine=checks.engine(engines),
        verbosity=checks.verbosity(),
        renew_margin_s=checks.renew_margin_s(),
        options={name: value for name, value in values.items() if name not in of_stores | of_core},
        secrets=parsed.secrets,
    )
    if checks.problems:
        raise ConfigError(checks.problems, "the settings of tulled")
    return config


class _Checks:
    """One check for each of core's options; each notes its problem and gives a value that fits the type."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self._values: Mapping[str, Any] = parsed.values
        self.problems: list[ConfigProblem] = []

    def _problem(self, name: str, value: Any, wrong: str, expected: str) -> None:
        source = self._parsed.sources[name]
        key = source.removeprefix("environment ") if source.startswith("environment ") else f"--{name}"
        self.problems.append(ConfigProblem(key, None if value is None else shown(value), expected, wrong))

    def with_directories(self) -> dict[str, Any]:
        """All values, the directories filled into defaults."""
        values = dict(self._values)
        for name, value in self._values.items():
            if self._parsed.sources[name] == "default" and isinstance(value, str):
                for directory in ("state-dir", "run-dir"):
                    value = value.replace(f"{{{directory}}}", str(Path(self._values[directory])))
                values[name] = value
        return values

    def store(self, specs: Sequence[StoreSpec]) -> tuple[StoreSpec | None, bool]:
        """The store, and whether nothing chose it."""
        asked = self._values["store"]
        if asked:
            for spec in specs:
                if asked in (spec.name, *spec.aliases):
                    return spec, False
            known = [spec.name for spec in specs]
            meant = nearest(asked, known)
            expected = f"{meant}, if you meant that" if meant else f"one of: {', '.join(known)}"
            wrong = f"is not a store that is installed (there are: {', '.join(known) or 'none'})"
            self._problem("store", asked, wrong, expected)
            return None, False
        for spec in specs:
            if self._parsed.given.intersection(spec.chosen_by):
                return spec, False
        for spec in specs:
            if spec.embedded:
                return spec, True
        expected = f"the name of a store: {', '.join(spec.name for spec in specs) or 'install one first'}"
        self._problem("store", None, "is missing, and no store is the embedded one", expected)
        return None, True

    def node_name(self, hostname: str) -> str:
        given: str | None = self._values["node-name"]
        name = hostname if given is None else given
        if len(name) > _NAME_CHARACTERS or not all(_LABEL.fullmatch(label) for label in name.split(".")):
            wrong = (
                "cannot be a node's name"
                if given is not None
                else "is the host name and cannot be a node's name"
            )
            expected = 'letters, digits, "-" and ".", such as --node-name=node-1'
            self._problem("node-name", name, wrong, expected)
        return name

    def prefix(self) -> str:
        given: str = self._values["etcd-prefix"]
        parts = [part for part in given.split("/") if part]
        if not parts or any(part in (".", "..") for part in parts) or not given.isprintable():
            self._problem("etcd-prefix", given, "is not a prefix of keys", "one such as /coreos.com/network")
        return posixpath.join("/", *parts)

    def interfaces(self) -> tuple[str, ...]:
        given: tuple[str, ...] = self._values["iface"]
        for one in given:
            if _address(one) is None and not _LINK_NAME.fullmatch(one):
                expected = "a name such as eth0, or an address of this machine"
                self._problem("iface", one, "is not the name or address of an interface", expected)
        return given

    def public(self) -> dict[Family, Address]:
        found: dict[Family, Address] = {}
        kinds: tuple[tuple[str, Family, str], ...] = (
            ("public-ip", 4, "192.0.2.7"),
            ("public-ipv6", 6, "2001:db8::7"),
        )
        for name, family, example in kinds:
            text = self._values[name]
            if not text:
                continue
            address = _address(text)
            expected = f"the IPv{family} address of this node, such as {example}"
            if address is None or address.version != family:
                self._problem(name, text, f"is not an IPv{family} address", expected)
            elif address.is_unspecified or address.is_multicast or int(address) == 0xFFFFFFFF:
                self._problem(name, text, "is not the address of one node", expected)
            else:
                found[family] = address
        return found

    def path(self, name: str) -> Path:
        text: str = self._values[name]
        if not text or "\0" in text:
            self._problem(name, text, "is not a path", "a path such as " + _default_of(name))
            return Path(_default_of(name))
        return Path(text)

    def engine(self, engines: Collection[str] | None) -> str:
        name: str = self._values["engine"]
        known = None if engines is None else ["auto", *sorted(engines)]
        if not _PLUGIN_NAME.fullmatch(name) or (known is not None and name not in known):
            expected = f"one of: {', '.join(known)}" if known else "auto, python, native or a plugin's name"
            self._problem("engine", name, "is not an engine that is installed", expected)
        return name

    def verbosity(self) -> int:
        level: int = self._values["v"]
        if level < 0:
            self._problem("v", level, "is below zero", "0, or a higher number to see more")
        return level

    def renew_margin_s(self) -> float:
        margin_s: float = self._values["subnet-lease-renew-margin"]
        low, high = RENEW_MARGIN_S
        if not low <= margin_s <= high:
            wrong = f"{margin_s / 60:g} minutes is more or less than a lease of 24 h allows"
            self._problem("subnet-lease-renew-margin", None, wrong, "1 to 1439 minutes")
        return margin_s


def _default_of(name: str) -> str:
    return str(next(option.default for option in CORE_OPTIONS if option.name == name))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Without a scope: "fe80::1%eth0" is no address for other nodes."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None
