"""Where a peer is, as people and `wg` read it: "192.0.2.1:51820", "[2001:db8::1]:51820". Pure.

What packets need of it is in `endpoint`.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

import msgspec

from tulle.net.prefix import Address

_PLACE = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", re.ASCII)
_LONGEST_SHOWN = 80


class Place(msgspec.Struct, frozen=True):
    """Where a peer is: an address and a UDP port. An IPv4 address inside an IPv6 one is written as IPv4."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}" if self.address.version == 4 else f"[{self.address}]:{self.port}"


def parse_place(text: str) -> Place:
    """ "192.0.2.1:51820" or "[2001:db8::1]:51820". Raises ValueError; names are the caller's to resolve."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is not of the form address:port or [address]:port")
    address, port = ip_address(match[1] or match[2]), int(match[3])
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"{shown(text)}: addresses with a scope cannot be used, give a global one")
        address = address.ipv4_mapped or address
    elif match[1] is not None:
        raise ValueError(f"{shown(text)}: only IPv6 addresses stand in brackets")
    if not 0 < port < 2**16:
        raise ValueError(f"{shown(text)}: ports go from 1 to 65535")
    return Place(address, port)


def shown(text: str) -> str:
    """For a message: not endless, and no control characters."""
    return repr(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "...")
