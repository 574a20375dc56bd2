"""Prefixes: an IPv4 or IPv6 network, and the two ways the store and the world write them.

One family-neutral alias; the arithmetic is `ipaddress`'s.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

Prefix = IPv4Network | IPv6Network


def parse_prefix(text: str) -> Prefix:
    """ "10.5.52.0/24" or "fd00::/64". Raises ValueError where host bits are set or it is no prefix."""
    return ip_network(text, strict=True)
