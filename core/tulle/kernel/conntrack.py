"""Forgetting connections of addresses that are no longer anybody's, by ctnetlink
(linux/netfilter/nfnetlink_conntrack.h).

A connection that the kernel tracks keeps the NAT and the way that it had at its first packet: where a subnet has gone
and comes back on another node, its old entries would mislead the new pods' packets until they time out.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from tulle.kernel.rtsocket import RouteSocket
from tulle.kernel.rtwire import (
    ATTRIBUTE,
    IPV4_BYTES,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NUMBERS,
    Message,
    attributes,
)
from tulle.net.prefix import Address, Family, Prefix

# linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_conntrack.h, linux/netlink.h
NETLINK_NETFILTER = 12
NFNL_SUBSYS_CTNETLINK = 1
CT_GET = NFNL_SUBSYS_CTNETLINK << 8 | 1
CT_DELETE = NFNL_SUBSYS_CTNETLINK << 8 | 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE = 1, 2, 12, 18
CTA_TUPLE_IP = 1
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
NLA_F_NESTED = 1 << 15
NFGENMSG_BYTES = 4
IPV6_BYTES = 16

PIECE = 500
"""Entries that are looked at between two turns of the loop: 1 ms, and 10 ms where each of them concerns us."""


async def forget(prefixes: Collection[Prefix]) -> int:
    """Drop all tracked connections with an end in one of these. Returns how many there were. Raises OSError where the
    kernel cannot be asked (it has no ctnetlink, or the right is missing)."""
    families: set[Family] = {one.version for one in prefixes}
    kernel = RouteSocket(NETLINK_NETFILTER)
    orders = []
    try:
        for family in sorted(families):
            bodies = await kernel.dump(list_all(family))
            for start in range(0, len(bodies), PIECE):
                orders += [delete(one) for one in bodies[start : start + PIECE] if concerns(one, prefixes)]
                await asyncio.sleep(0)
        codes = await kernel.apply(orders)
    finally:
        kernel.close()
    refused = next((code for code in codes if code not in (0, errno.ENOENT)), 0)
    if refused:
        raise OSError(refused, "the kernel does not drop tracked connections")
    return codes.count(0)


def list_all(family: Family) -> Message:
    return Message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, _head(family))


def delete(body: bytes) -> Message:
    """Of one entry as it was listed. By its number too: another that took its place stays."""
    parts = attributes(body, NFGENMSG_BYTES)
    kept = [(CTA_TUPLE_ORIG | NLA_F_NESTED, CTA_TUPLE_ORIG), (CTA_ZONE, CTA_ZONE), (CTA_ID, CTA_ID)]
    packed = [_attribute(kind, parts[number]) for kind, number in kept if number in parts]
    return Message(CT_DELETE, NLM_F_REQUEST, body[:1] + bytes(NFGENMSG_BYTES - 1) + b"".join(packed))


def concerns(body: bytes, prefixes: Collection[Prefix]) -> bool:
    """Whether an entry has an end in one of these, before or after NAT. Most have none of their bytes anywhere, which
    costs a microsecond to see."""
    if not any(one.network_address.packed[: one.prefixlen // 8] in body for one in prefixes):
        return False
    for packed in ends(attributes(body, NFGENMSG_BYTES)):
        number, bits = int.from_bytes(packed, "big"), 8 * len(packed)
        for prefix in prefixes:
            free = bits - prefix.prefixlen
            if prefix.max_prefixlen == bits and number >> free == int(prefix.network_address) >> free:
                return True
    return False


def addresses(body: bytes) -> list[Address]:
    """Of an entry, for people."""
    found = ends(attributes(body, NFGENMSG_BYTES))
    return [IPv4Address(one) if len(one) == IPV4_BYTES else IPv6Address(one) for one in found]


def ends(parts: Mapping[int, bytes]) -> Iterator[bytes]:
    """Source and destination, of both directions, in network order."""
    for direction in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY):
        addressed = attributes(attributes(parts.get(direction, b""), 0).get(CTA_TUPLE_IP, b""), 0)
        for kind in (CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST):
            packed = addressed.get(kind)
            if packed is not None and len(packed) in (IPV4_BYTES, IPV6_BYTES):
                yield packed


def _head(family: Family) -> bytes:
    """struct nfgenmsg."""
    return bytes([NUMBERS[family], 0, 0, 0])


def _attribute(kind: int, value: bytes) -> bytes:
    size = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)
