"""The network config: flannel's JSON at `<prefix>/config`, the one thing that all nodes of a cluster share.

    text -> object -> one FamilyConfig for each family, the backend, plugin sections; all problems at once

Fields, defaults and limits are flannel's, for both families by one path; only the names and the numbers
differ. What tulle adds lies in "Tulle", and in Backend options that flannel ignores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import msgspec

from tulle.config.errors import ConfigError, ConfigProblem, nearest, printable, shown
from tulle.config.jsontext import read_object
from tulle.net.prefix import Address, Family, Prefix, parse_covering_prefix
from tulle.net.subnets import SubnetRange

WHAT = "the network config"
DEFAULT_BACKEND = "udp"
"""As flannel's, where there is no Backend."""

_EXAMPLE = 'an object such as {"Network": "10.5.0.0/16"}'


class _Rules(msgspec.Struct, frozen=True):
    """What differs between the families."""

    family: Family
    enable: str
    enabled_by_default: bool
    names: str
    """What stands before Network, SubnetLen, SubnetMin and SubnetMax in the keys."""
    longest_network: int
    longest_subnet: int
    usual_subnet: int
    example: str

    @property
    def word(self) -> str:
        return f"IPv{self.family}"


_FAMILIES = (
    _Rules(4, "EnableIPv4", True, "", 28, 30, 24, "10.5.0.0/16"),
    _Rules(6, "EnableIPv6", False, "IPv6", 124, 126, 64, "fd00:5::/48"),
)
_SUBNETS_AT_LEAST_BITS = 2  # a network holds at least four subnets, since the first is not used
_FIELDS = ("Network", "SubnetLen", "SubnetMin", "SubnetMax")
_KNOWN = (
    *(rules.names + field for rules in _FAMILIES for field in _FIELDS),
    *(rules.enable for rules in _FAMILIES),
    "EnableNFTables",
    "Backend",
    "Tulle",
)


class FamilyConfig(msgspec.Struct, frozen=True):
    """The cluster's network of one family, and which subnets of it nodes get."""

    family: Family
    network: Prefix
    subnet_len: int
    subnet_min: Address
    subnet_max: Address

    def subnets(self) -> SubnetRange:
        """The subnets that may be leased."""
        return SubnetRange(self.network, self.subnet_len, self.subnet_min, self.subnet_max)


class NetworkConfig(msgspec.Struct, frozen=True):
    """A network config that passed all checks."""

    families: tuple[FamilyConfig, ...]
    """Those in use, IPv4 first."""
    backend_type: str = DEFAULT_BACKEND
    """Lower case."""
    backend_options: dict[str, Any] = {}
    """As they stand there, without Type; the backend's own type checks them."""
    enable_nftables: bool | None = None
    """None: it does not say. flannel takes iptables then, tulle nftables."""
    sections: dict[str, dict[str, Any]] = {}
    """The "Tulle" object: settings by plugin name (lower case)."""
    extra: dict[str, Any] = {}
    """Top-level keys that nobody here knows."""
    warnings: tuple[str, ...] = ()
    """For people: what is odd and still works."""

    @property
    def networks(self) -> tuple[Prefix, ...]:
        """The cluster networks, one for each family in use."""
        return tuple(family.network for family in self.families)


def parse_network_config(text: bytes | str) -> NetworkConfig:
    """Raises ConfigError with all problems, and nothing else, whatever the text holds."""
    return _Reader(*read_object(text, WHAT, _EXAMPLE)).config()


def render_network_config(config: NetworkConfig) -> str:
    """JSON text that flannel and `parse_network_config` read; what is default for its network is left out,
    except SubnetLen and Backend, which people look for."""
    out: dict[str, Any] = {}
    for rules in _FAMILIES:
        family = next((one for one in config.families if one.family == rules.family), None)
        if (family is not None) != rules.enabled_by_default:
            out[rules.enable] = family is not None
        if family is not None:
            out |= _rendered_family(rules, family)
    if config.enable_nftables is not None:
        out["EnableNFTables"] = config.enable_nftables
    out["Backend"] = {"Type": config.backend_type, **config.backend_options}
    if config.sections:
        out["Tulle"] = config.sections
    return json.dumps(out | config.extra, indent=2) + "\n"


def _rendered_family(rules: _Rules, family: FamilyConfig) -> dict[str, Any]:
    out: dict[str, Any] = {
        rules.names + "Network": str(family.network),
        rules.names + "SubnetLen": family.subnet_len,
    }
    low, high = _default_ends(family.network, family.subnet_len)
    if family.subnet_min != low:
        out[rules.names + "SubnetMin"] = str(family.subnet_min)
    if family.subnet_max != high:
        out[rules.names + "SubnetMax"] = str(family.subnet_max)
    return out


def _default_ends(network: Prefix, length: int) -> tuple[Address, Address]:
    """The second subnet (the first one's network address is also the whole network's) and the last."""
    size = 1 << (network.max_prefixlen - length)
    return network.network_address + size, network.network_address + (network.num_addresses - size)


class _Reader:
    """Takes the object apart, noting problems and warnings on the way."""

    def __init__(self, raw: Mapping[str, Any], problems: list[ConfigProblem]) -> None:
        canonical = {name.lower(): name for name in _KNOWN}
        # A null is as good as an absent key: so Go's decoder has it.
        self.fields = {
            canonical[key.lower()]: value
            for key, value in raw.items()
            if key.lower() in canonical and value is not None
        }
        self.extra = {key: value for key, value in raw.items() if key.lower() not in canonical}
        self.problems = problems
        self.warnings = [_unknown(key) for key in self.extra]

    def config(self) -> NetworkConfig:
        families = tuple(found for rules in _FAMILIES if (found := self._family(rules)))
        if not any(self._enabled(rules) for rules in _FAMILIES):
            self._problem("EnableIPv4", False, "leaves no family", "true here, or EnableIPv6 true")
        backend_type, backend_options = self._backend()
        sections = self._sections()
        says = "EnableNFTables" in self.fields
        enable_nftables = self._bool("EnableNFTables", False) if says else None
        if self.problems:
            raise ConfigError(self.problems, WHAT)
        return NetworkConfig(
            families,
            backend_type,
            backend_options,
            enable_nftables,
            sections,
            self.extra,
            tuple(self.warnings),
        )

    def _problem(self, key: str, value: Any, wrong: str, expected: str) -> None:
        self.problems.append(ConfigProblem(key, shown(value), expected, wrong))

    def _bool(self, key: str, default: bool) -> bool:
        value = self.fields.get(key, default)
        if isinstance(value, bool):
            return value
        self._problem(key, value, "is not true or false", "true or false, without quotes")
        return default

    def _enabled(self, rules: _Rules) -> bool:
        value = self.fields.get(rules.enable, rules.enabled_by_default)
        return value is not False

    def _family(self, rules: _Rules) -> FamilyConfig | None:
        """Checked whether or not the family is on; what is missing matters only where it is."""
        noted = len(self.problems)
        enabled = self._bool(rules.enable, rules.enabled_by_default)
        network, length = self._network(rules), self._length(rules)
        low, high = (self._address(rules, field) for field in ("SubnetMin", "SubnetMax"))
        if not enabled:
            if network is not None and not rules.enabled_by_default:
                self.warnings.append(
                    f"{rules.names}Network is not used: {rules.enable} is not true; set it to true"
                    f" for {rules.word}, or remove {rules.names}Network"
                )
            return None
        if network is None:
            if rules.names + "Network" not in self.fields:
                self._missing(rules)
            return None
        self._check_inside(rules, network, low, high)
        length = self._fitting_length(rules, network, length)
        if length is None or noted != len(self.problems):
            return None
        default_low, default_high = _default_ends(network, length)
        found = FamilyConfig(rules.family, network, length, low or default_low, high or default_high)
        self._check_boundaries(rules, found)
        return found

    def _missing(self, rules: _Rules) -> None:
        other = f"; or set {rules.enable} to false" if rules.enabled_by_default else ""
        expected = f"an {rules.word} network such as {rules.example}{other}"
        self.problems.append(ConfigProblem(rules.names + "Network", None, expected, "is missing"))

    def _network(self, rules: _Rules) -> Prefix | None:
        key = rules.names + "Network"
        value = self.fields.get(key)
        if value is None:
            return None
        usual = f"an {rules.word} network such as {rules.example}"
        try:
            network = parse_covering_prefix(value) if isinstance(value, str) else None
        except ValueError:
            network = None
        if network is None or network.version != rules.family:
            self._problem(key, value, f"is not an {rules.word} network", usual)
            return None
        if network.prefixlen > rules.longest_network:
            expected = f"a length of at most /{rules.longest_network}"
            self._problem(key, value, "is too small for four subnets", expected)
            return None
        if network.prefixlen == 0 or network.is_multicast or network.is_loopback:
            self._problem(key, value, "is no network that pods can have", usual)
            return None
        if network.network_address != ip_address(value.partition("/")[0]):
            self.warnings.append(f"{key}: {shown(value)} has host bits set; {network} is used")
        return network

    def _length(self, rules: _Rules) -> int | None:
        """None where nothing useful is given; 0 is flannel's word for "the default"."""
        key = rules.names + "SubnetLen"
        value = self.fields.get(key, 0)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= rules.longest_subnet:
            return value or None
        expected = f"a whole number up to {rules.longest_subnet}, without quotes"
        self._problem(key, value, "is not the length of a subnet", expected)
        return None

    def _fitting_length(self, rules: _Rules, network: Prefix, length: int | None) -> int | None:
        """The length given, or the default; None (and a problem) where the network cannot hold four."""
        least = network.prefixlen + _SUBNETS_AT_LEAST_BITS
        if length is None:
            return max(rules.usual_subnet, least)
        if length >= least:
            return length
        wrong = f"leaves less than four subnets in {network}"
        expected = f"a length from {least} to {rules.longest_subnet}, or a larger {rules.names}Network"
        self._problem(rules.names + "SubnetLen", length, wrong, expected)
        return None

    def _address(self, rules: _Rules, field: str) -> Address | None:
        """None where none is given; flannel takes the unspecified address for that too."""
        key = rules.names + field
        value = self.fields.get(key)
        if value is None:
            return None
        try:
            address = ip_address(value) if isinstance(value, str) and "%" not in value else None
        except ValueError:
            address = None
        if address is None or address.version != rules.family:
            expected = f"the {rules.word} address of a subnet, or leave it out"
            self._problem(key, value, f"is not an {rules.word} address", expected)
            return None
        return None if address.is_unspecified else address

    def _check_inside(
        self, rules: _Rules, network: Prefix, low: Address | None, high: Address | None
    ) -> None:
        for field, address in (("SubnetMin", low), ("SubnetMax", high)):
            if address is not None and address not in network:
                expected = f"an address of {network}, or leave it out"
                self._problem(rules.names + field, str(address), f"is not in {network}", expected)

    def _check_boundaries(self, rules: _Rules, family: FamilyConfig) -> None:
        """SubnetMin and SubnetMax are the addresses of subnets, and in order."""
        size = 1 << (family.network.max_prefixlen - family.subnet_len)
        for field, address in (("SubnetMin", family.subnet_min), ("SubnetMax", family.subnet_max)):
            if int(address) % size:
                wrong = f"is not on a /{family.subnet_len} boundary"
                expected = f"the address of a subnet, such as {address - int(address) % size}"
                self._problem(rules.names + field, str(address), wrong, expected)
        if int(family.subnet_min) > int(family.subnet_max):
            wrong = f"lies after {rules.names}SubnetMax {family.subnet_max}"
            expected = f"an address up to {family.subnet_max}"
            self._problem(rules.names + "SubnetMin", str(family.subnet_min), wrong, expected)

    def _backend(self) -> tuple[str, dict[str, Any]]:
        value = self.fields.get("Backend")
        if value is None:
            return DEFAULT_BACKEND, {}
        example = f'an object such as {{"Type": "{DEFAULT_BACKEND}"}}'
        if not isinstance(value, dict):
            self.problems.append(ConfigProblem("Backend", None, example, "is not an object"))
            return DEFAULT_BACKEND, {}
        types = [item for key, item in value.items() if key.lower() == "type" and item is not None]
        expected = 'the name of a backend in quotes, such as "udp"'
        if not types:
            self.problems.append(ConfigProblem("Backend.Type", None, expected, "is missing"))
            return DEFAULT_BACKEND, {}
        if not isinstance(types[0], str) or not types[0]:
            self._problem("Backend.Type", types[0], "is not the name of a backend", expected)
            return DEFAULT_BACKEND, {}
        return types[0].lower(), {key: item for key, item in value.items() if key.lower() != "type"}

    def _sections(self) -> dict[str, dict[str, Any]]:
        value = self.fields.get("Tulle", {})
        if not isinstance(value, dict):
            example = 'an object by plugin names, such as {"dns": {}}'
            self.problems.append(ConfigProblem("Tulle", None, example, "is not an object"))
            return {}
        sections: dict[str, dict[str, Any]] = {}
        for name, settings in value.items():
            if isinstance(settings, dict):
                sections[name.lower()] = settings
            elif settings is not None:
                self.problems.append(
                    ConfigProblem(
                        printable(f"Tulle.{name}"),
                        None,
                        "the plugin's settings as an object",
                        "is not an object",
                    )
                )
        return sections


def _unknown(key: str) -> str:
    meant = nearest(key, _KNOWN)
    hint = f"did you mean {meant}?" if meant else "remove it, or see the documentation for what there is"
    return f"{shown(key)} is not a key of the network config and is ignored; {hint}"
