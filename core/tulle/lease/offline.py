"""Leases as commands see them: on the store alone, whether or not a tulled runs."""

from __future__ import annotations

import msgspec

from tulle.contracts.store import NO_LEASE, Delete, Store, unchanged
from tulle.lease.acquire import Keys
from tulle.lease.codec import decode_member
from tulle.lease.model import Member
from tulle.lease.registered import Registered, read
from tulle.net.prefix import parse_subnet_key


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
    alive: bool | None
    """Whether a tulled renews it now; None where nobody can say (a flannel node's)."""
    came: bool
    """False: a reservation for a node that has never been there."""
    problem: str = ""


async def read_leases(store: Store, prefix: str) -> list[LeaseLine]:
    """All leases in key order, unreadable ones with the reason."""
    known = await read(store, prefix)
    left = await store.remaining({one.kv.lease for one in known.leases.values() if one.kv.lease != NO_LEASE})
    return [_line(known, key, left.get(item.kv.lease)) for key, item in known.leases.items()]


def _line(known: Registered, key: str, left_s: float | None) -> LeaseLine:
    item = known.leases[key]
    owner = known.owner(key)
    member = owner.value if owner is not None else None
    lease = item.value
    return LeaseLine(
        key=key,
        node=member.name if member is not None else "",
        subnets=[str(one) for one in parse_subnet_key(key) or ()],
        public=[str(one) for one in lease.public.values()] if lease is not None else [],
        backend=lease.backend if lease is not None else "",
        reserved=item.kv.lease == NO_LEASE,
        expires_s=left_s,
        alive=None if member is None else member.name in known.alive,
        came=member is None or bool(member.id),
        problem=known.unreadable.get(key, ""),
    )


async def release_node(store: Store, prefix: str, node: str, node_id: str) -> bool:
    """Delete the lease, member and alive records of a node that does not run; a reservation stays. False where the
    store knows no such node, or another machine has its name."""
    keys = Keys(prefix, node)
    found = await store.get(keys.member)
    member = decode_member(found) if found is not None else None
    if found is None or not isinstance(member, Member) or member.id != node_id:
        return False
    conditions, deletions = [unchanged(keys.member, found.modified)], [Delete(keys.alive)]
    if not member.reserved:
        deletions.append(Delete(keys.member))
    for subnet in member.subnets:
        lease = await store.get(keys.subnets + subnet)
        if lease is not None and lease.lease != NO_LEASE:
            conditions.append(unchanged(lease.key, lease.modified))
            deletions.append(Delete(lease.key))
    return (await store.transact(conditions, deletions)).succeeded
