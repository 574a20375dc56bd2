"""Which member record owns which lease. Pure.

A record names its lease by key, and a key can change hands while its owner is away (it expires, somebody else takes
it). Record and lease are always written in one transaction, so a claim is true as long as they still have a
revision or the store's lease in common.
"""

from __future__ import annotations

from collections.abc import Mapping

from tulle.contracts.store import NO_LEASE, KeyValue
from tulle.lease.codec import short_key
from tulle.lease.model import Lease, Member
from tulle.store.items import Item


def claims(member: Member, lease: KeyValue) -> bool:
    """The record names this lease, rightly or not."""
    return short_key(lease.key) in member.subnets


def owns(member: Item[Member], lease: Item[Lease]) -> bool:
    """The record names this lease and the claim is still true."""
    if member.value is None or not claims(member.value, lease.kv):
        return False
    if member.kv.modified == lease.kv.modified:
        return True
    if lease.kv.lease != NO_LEASE:
        return member.kv.lease == lease.kv.lease
    # A person made a reservation of it: the value is as it was, the TTL is gone.
    public = lease.value.public.values() if lease.value is not None else ()
    return any(address in member.value.endpoints for address in public)


def overlapping_older(mine: Item[Lease], leases: Mapping[str, Item[Lease]]) -> list[str]:
    """Keys of leases that share addresses with ours and were there before it.

    Create-if-absent guards one key. Two keys can still overlap: pairs of an IPv4 and an IPv6 subnet that have one
    half in common, or lengths of before and after a change of the config. The older one stays."""
    if mine.value is None:
        return []
    found = []
    for key, item in leases.items():
        if key == mine.kv.key or item.value is None or item.kv.created >= mine.kv.created:
            continue
        if any(
            ours.version == theirs.version and ours.overlaps(theirs)
            for ours in mine.value.prefixes
            for theirs in item.value.prefixes
        ):
            found.append(key)
    return found
