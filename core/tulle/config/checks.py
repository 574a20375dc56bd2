"""What each of core's settings has to be. Each check notes its problem and gives a value that fits the type."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from tulle.config.core_options import CORE_OPTIONS
from tulle.config.errors import ConfigProblem, nearest, shown
from tulle.config.flags import Parsed
from tulle.config.govalues import compile_regexp
from tulle.config.inactive import KUBE_SUBNET_MGR
from tulle.contracts.specs import StoreChoice, StoreSpec
from tulle.net.prefix import Address, Family

RENEW_MARGIN_S = (60.0, 1439 * 60.0)
"""The least and the most, flannel's: the lease lives 1440 minutes."""

LOG_FORMATS = ("text", "json")
LAST_PORT = 65535

_NAME_CHARACTERS = 253  # of a domain name, RFC 1035 section 2.3.4
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)  # RFC 1123 section 2.1
_PLUGIN_NAME = re.compile(r"[a-z0-9][a-z0-9-]*", re.ASCII)
_LINK_NAME = re.compile(r"[^\s/\x00]{1,15}")  # IFNAMSIZ is 16 with the zero byte at its end


def with_directories(parsed: Parsed) -> dict[str, Any]:
    """All values, "{state-dir}" and "{run-dir}" filled into defaults."""
    values = dict(parsed.values)
    for name, value in parsed.values.items():
        if parsed.sources[name] == "default" and isinstance(value, str):
            for directory in ("state-dir", "run-dir"):
                value = value.replace(f"{{{directory}}}", str(Path(parsed.values[directory])))
            values[name] = value
    return values


class Checks:
    """One method for each option; `problems` holds what they have noted."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self._values: Mapping[str, Any] = parsed.values
        self.problems: list[ConfigProblem] = []

    def _problem(self, name: str, value: Any, wrong: str, expected: str) -> None:
        source = self._parsed.sources[name]
        kind, _, where = source.partition(" ")
        key = {"environment": where, "file": f"{where or kind}: {name}"}.get(kind, f"--{name}")
        self.problems.append(ConfigProblem(key, None if value is None else shown(value), expected, wrong))

    def store(self, specs: Sequence[StoreChoice]) -> tuple[StoreChoice | None, bool]:
        """The store, or the subnet manager in its place, and whether nothing chose it."""
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
            given = self._parsed.given.intersection(spec.chosen_by)
            if any(self._values[name] is not False for name in given):
                return spec, False
        for spec in specs:
            if isinstance(spec, StoreSpec) and spec.embedded:
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

    def interface_patterns(self) -> tuple[str, ...]:
        given: tuple[str, ...] = self._values["iface-regex"]
        for one in given:
            try:
                compile_regexp(one)
            except ValueError as error:
                wrong = f"is not a regular expression ({error})"
                self._problem("iface-regex", one, wrong, r"one such as ^eth\d or ^192\.0\.2\.")
        return given

    def can_reach(self) -> tuple[Address, ...]:
        found = []
        for one in self._values["iface-can-reach"]:
            address = _address(one)
            if address is None or address.is_unspecified or address.is_multicast:
                expected = "the address of another machine, such as 192.0.2.1"
                self._problem("iface-can-reach", one, "is not an address to reach", expected)
            else:
                found.append(address)
        return tuple(found)

    def healthz_ip(self) -> Address:
        text: str = self._values["healthz-ip"]
        address = _address(text)
        if address is None or address.is_multicast:
            expected = "an address of this node, 0.0.0.0 or ::"
            self._problem("healthz-ip", text, "is not an address to listen at", expected)
            return IPv4Address(0)
        return address

    def healthz_port(self) -> int:
        port: int = self._values["healthz-port"]
        if not 0 <= port <= LAST_PORT:
            self._problem("healthz-port", port, "is not a port", f"1 to {LAST_PORT}, or 0 to serve nothing")
        return port

    def log_format(self) -> str:
        name: str = self._values["log-format"]
        if name not in LOG_FORMATS:
            self._problem("log-format", name, "is not a form of log lines", " or ".join(LOG_FORMATS))
        return name

    def inactive(self) -> None:
        """Of what nothing carries out, only what would mislead is a problem."""
        if KUBE_SUBNET_MGR in self._parsed.inactive and self._values[KUBE_SUBNET_MGR]:
            part = self._parsed.inactive[KUBE_SUBNET_MGR]
            wrong = f"asks for subnets from Kubernetes, and this tulle has no {part} yet"
            self._problem(KUBE_SUBNET_MGR, True, wrong, "false, and --etcd-endpoints or another --store")

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
