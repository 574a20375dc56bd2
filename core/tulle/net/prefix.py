"""Prefixes: an IPv4 or IPv6 network, and the ways the store, subnet.env and people write them.

One family-neutral alias; the arithmetic is `ipaddress`'s. Parsing is stricter than `ipaddress`: netmasks,
missing lengths and scopes ("fe80::%eth0/64") are refused, since no other program of the cluster would read
them alike.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Literal

Address = IPv4Address | IPv6Address
Family = Literal[4, 6]
Prefix = IPv4Network | IPv6Network

ADDRESS_BITS: dict[int, int] = {4: 32, 6: 128}
"""Bits of an address, by family."""

_PREFIX = re.compile(r"[0-9A-Fa-f.:]+/[0-9]{1,3}", re.ASCII)
_KEY_PART = re.compile(r"([0-9a-f.:]+)-([0-9]{1,3})", re.ASCII)
_KEY_LIMIT = 128  # characters; the longest key of two families has 63


def parse_prefix(text: str) -> Prefix:
    """ "10.5.52.0/24" or "fd00::/64". Raises ValueError where host bits are set or it is no prefix."""
    return ip_network(_checked(text), strict=True)


def parse_covering_prefix(text: str) -> Prefix:
    """As `parse_prefix`, but host bits are cleared: "10.5.52.7/24" gives 10.5.52.0/24, as Go's ParseCIDR
    does."""
    return ip_network(_checked(text), strict=False)


def _checked(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError(f"{text!r} is not of the form address/length")
    return text


def prefix_from_int(family: int, address: int, length: int) -> Prefix:
    """The prefix whose network address is that number. Raises ValueError where host bits are set."""
    if family == 4:
        return IPv4Network((address, length))
    return IPv6Network((address, length))


def first_host(prefix: Prefix) -> str:
    """The address after the network's own, with the length: "10.5.52.1/24" (a node's bridge, subnet.env). A
    prefix of a single address gives that address."""
    offset = 1 if prefix.num_addresses > 1 else 0
    return f"{prefix.network_address + offset}/{prefix.prefixlen}"


def subnet_key(prefixes: tuple[Prefix, ...]) -> str:
    """The last part of a lease's key: (v4,), (v4, v6) or (v6,) -> "10.12.13.0-24&fd00:12:13::-56".

    Raises ValueError for any other combination."""
    if tuple(prefix.version for prefix in prefixes) not in {(4,), (4, 6), (6,)}:
        raise ValueError(
            f"no key for {prefixes!r}: give one IPv4 prefix, one IPv6 prefix, or both in this order"
        )
    return "&".join(f"{prefix.network_address}-{prefix.prefixlen}" for prefix in prefixes)


def parse_subnet_key(text: str) -> tuple[Prefix, ...] | None:
    """What `subnet_key` wrote; None for anything else. Only the one canonical spelling is taken, so two keys
    never mean the same subnet."""
    if len(text) > _KEY_LIMIT:
        return None
    matches = [_KEY_PART.fullmatch(part) for part in text.split("&")]
    try:
        prefixes = tuple(parse_prefix(f"{match[1]}/{match[2]}") for match in matches if match)
        return prefixes if subnet_key(prefixes) == text else None
    except ValueError:
        return None
