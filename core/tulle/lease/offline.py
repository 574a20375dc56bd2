"""Leases as commands see them: on the store alone, whether or not a tulled runs."""

from __future__ import annotations

import msgspec

from tulle.contracts.store import NO_LEASE, Delete, Store, unchanged
from tulle.lease.acquire import Keys
from tulle.lease.codec import decode_lease, decode_member
from tulle.lease.model import Lease, Member
from tulle.store.items import Undecodable


class LeaseLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `tulle leases`."""

    key: str
    node: str
    """"" where no member record names this lease (a flannel node's)."""
    subnets: list[str]
    public: list[str]
    backend: str
    """"" where the lease names none."""
    reserved: bool
    """It never expires."""
    expires_s: float | None
    """Seconds left; None for a reservation."""
    problem: str = ""


async def read_leases(store: Store, prefix: str) -> list[LeaseLine]:
    """All leases in key order, unreadable ones with the reason."""
    keys = Keys(prefix, "")
    listing = await store.list(keys.subnets)
    members = [decode_member(kv) for kv in (await store.list(keys.members)).items]
    nodes = {subnet: one.name for one in members if isinstance(one, Member) for subnet in one.subnets}
    left = await store.remaining({kv.lease for kv in listing.items if kv.lease != NO_LEASE})
    lines = []
    for kv in listing.items:
        lease = decode_lease(kv)
        known = lease if isinstance(lease, Lease) else None
        short = kv.key.removeprefix(keys.subnets)
        lines.append(
            LeaseLine(
                key=short,
                node=nodes.get(short, ""),
                subnets=[str(one) for one in known.prefixes] if known else [],
                public=[str(one) for one in known.public.values()] if known else [],
                backend=known.backend if known else "",
                reserved=kv.lease == NO_LEASE,
                expires_s=left.get(kv.lease),
                problem=lease.reason if isinstance(lease, Undecodable) else "",
            )
        )
    return lines


async def release_node(store: Store, prefix: str, node: str, node_id: str) -> bool:
    """Delete the lease, member and alive records of a node that does not run; a reservation stays. False where the
    store knows no such node, or another machine has its name."""
    keys = Keys(prefix, node)
    found = await store.get(keys.member)
    member = decode_member(found) if found is not None else None
    if found is None or not isinstance(member, Member) or member.id != node_id:
        return False
    conditions, deletions = (
        [unchanged(keys.member, found.modified)],
        [Delete(keys.member), Delete(keys.alive)],
    )
    for subnet in member.subnets:
        lease = await store.get(keys.subnets + subnet)
        if lease is not None and lease.lease != NO_LEASE:
            conditions.append(unchanged(lease.key, lease.modified))
            deletions.append(Delete(lease.key))
    return (await store.transact(conditions, deletions)).succeeded
