"""Which subnet a node takes. Pure: what is known goes in, a plan comes out.

In this order:
1. the lease that our member record owns, if it still fits the config. A record with an empty id is a reservation for
   our name (`reservation`);
2. a lease with our public address that no member record names: flannel's, of this machine. A reservation first;
3. the subnet of the last run, if it is free;
4. a random one of the first free ones.
A lease that another node's record names is never taken, whatever its public address: nodes behind one NAT share it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from tulle.contracts.store import Compare, Delete, KeyValue, Op, unchanged
from tulle.lease.claims import claims, overlapping_older, owns
from tulle.lease.codec import short_key
from tulle.lease.model import Lease, Member
from tulle.net.prefix import Address, Family, Prefix, parse_subnet_key, subnet_key
from tulle.net.subnets import SubnetRange
from tulle.store.items import Item

CHOICES = 100
"""As flannel: a random one of so many lowest free subnets, so that few nodes that start together meet."""

Leases = Mapping[str, Item[Lease]]
Members = Mapping[str, Item[Member]]
"""Both by their full keys, as mirrors hold them."""


class Me(msgspec.Struct, frozen=True):
    """The node that asks."""

    name: str
    id: str
    boot_id: str
    public: Mapping[Family, Address]
    previous: tuple[Prefix, ...] = ()


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A subnet to take, and what must hold for that."""

    key: str
    """Short: "10.5.52.0-24"."""
    prefixes: tuple[Prefix, ...]
    why: str
    """For people."""
    member: KeyValue | None
    """Our name's record as we know it."""
    drop: tuple[KeyValue, ...] = ()
    """Leases of ours that no longer fit; they go in the same transaction."""

    def guards(self) -> list[Compare]:
        """Conditions beside those on the lease and the member record."""
        return [unchanged(kv.key, kv.modified) for kv in self.drop]

    def also(self) -> list[Op]:
        return [Delete(kv.key) for kv in self.drop]


class Reuse(Choice, frozen=True, kw_only=True):
    """Our own lease."""

    current: Item[Lease]
    adopt: bool
    """It was written by this node in this boot: its store lease is ours, too. Otherwise (another machine had the
    name) it is written anew, so that who held it before cannot renew it."""


class TakeOver(Choice, frozen=True, kw_only=True):
    """flannel's lease of this machine."""

    current: Item[Lease]


class Create(Choice, frozen=True, kw_only=True):
    """A free subnet."""


class Full(msgspec.Struct, frozen=True):
    """Nothing is free."""

    network: Prefix
    count: int
    """Subnets that the network has to give, all of them taken."""


Plan = Reuse | TakeOver | Create | Full


def plan(ranges: Sequence[SubnetRange], leases: Leases, members: Members, me: Me, rng: random.Random) -> Plan:
    """What to do, given the subnets that the config allows (one range for each family, IPv4 first)."""
    record = next((item for key, item in members.items() if short_key(key) == me.name), None)
    own = [item for item in leases.values() if record is not None and owns(record, item)]
    fitting = next((item for item in own if _usable(ranges, item, leases)), None)
    drop = tuple(item.kv for item in own if item is not fitting and item.kv.lease != 0)
    member = record.kv if record is not None else None
    if fitting is not None:
        was = record.value if record is not None else None
        return Reuse(
            key=short_key(fitting.kv.key),
            prefixes=parse_subnet_key(short_key(fitting.kv.key)) or (),
            why="the subnet reserved for this node" if fitting.kv.lease == 0 else "this node's own lease",
            member=member,
            drop=drop,
            current=fitting,
            adopt=was is not None and (was.id, was.boot_id) == (me.id, me.boot_id),
        )
    found = _of_our_address(ranges, leases, members, me)
    if found is not None and found.value is not None:
        kind = "reservation" if found.value.reserved else "lease"
        return TakeOver(
            key=found.value.key,
            prefixes=found.value.prefixes,
            why=f"the {kind} of our public address",
            member=member,
            drop=drop,
            current=found,
        )
    dropped = {kv.key for kv in drop}
    taken = list(_taken(item for key, item in leases.items() if key not in dropped))
    for subnets in ranges:
        if not subnets.first_free(taken, 1):
            return Full(subnets.network, subnets.count)
    prefixes, why = _pick(ranges, taken, me.previous, rng)
    return Create(key=subnet_key(prefixes), prefixes=prefixes, why=why, member=member, drop=drop)


def fits(ranges: Sequence[SubnetRange], key: str) -> bool:
    """The lease has one subnet of each family in use, as the config wants them."""
    prefixes = parse_subnet_key(key) or ()
    return len(prefixes) == len(ranges) and all(
        subnets.fits(prefix) for subnets, prefix in zip(ranges, prefixes, strict=True)
    )


def _usable(ranges: Sequence[SubnetRange], item: Item[Lease], leases: Leases) -> bool:
    """It fits, and no part of it belongs to a lease that was there before."""
    return fits(ranges, short_key(item.kv.key)) and not overlapping_older(item, leases)


def _of_our_address(
    ranges: Sequence[SubnetRange], leases: Leases, members: Members, me: Me
) -> Item[Lease] | None:
    """A lease that says our public address, that fits, and that no record names."""
    candidates = [
        item for item in leases.values() if item.value is not None and _same_address(item.value, me)
    ]
    if not candidates:
        return None
    named = [record.value for record in members.values() if record.value is not None]
    free = [
        item
        for item in candidates
        if _usable(ranges, item, leases) and not any(claims(member, item.kv) for member in named)
    ]
    return min(free, key=lambda item: (item.kv.lease != 0, item.kv.key), default=None)


def _same_address(lease: Lease, me: Me) -> bool:
    """One family's address is ours, and none is somebody else's."""
    shared = lease.public.keys() & me.public.keys()
    return bool(shared) and all(lease.public[family] == me.public[family] for family in shared)


def _taken(items: Iterable[Item[Lease]]) -> Iterator[Prefix]:
    """Also where the value makes no sense: the key is there."""
    for item in items:
        yield from item.value.prefixes if item.value else parse_subnet_key(short_key(item.kv.key)) or ()


def _pick(
    ranges: Sequence[SubnetRange], taken: Sequence[Prefix], previous: Iterable[Prefix], rng: random.Random
) -> tuple[tuple[Prefix, ...], str]:
    """A free subnet of each family. Without a wish, a pair has the same number in both ranges where that is free:
    then two nodes that reach for one half reach for the same key, and the store decides between them."""
    picked: list[Prefix] = []
    wishes = list(previous)
    index: int | None = None
    wished = True
    for subnets in ranges:
        free = subnets.first_free(taken, CHOICES)
        wish = next((prefix for prefix in wishes if _is_free(subnets, prefix, taken)), None)
        if wish is None:
            wished = False
            twin = subnets.nth(index) if index is not None and index < subnets.count else None
            wish = twin if twin is not None and _is_free(subnets, twin, taken) else rng.choice(free)
        index = (int(wish.network_address) - int(subnets.first)) // subnets.size
        picked.append(wish)
    return tuple(picked), "the subnet of the last run" if wished else "a free subnet"


def _is_free(subnets: SubnetRange, prefix: Prefix, taken: Sequence[Prefix]) -> bool:
    if not subnets.fits(prefix):
        return False
    low, high = int(prefix.network_address), int(prefix.broadcast_address)
    return not any(
        other.version == prefix.version
        and int(other.network_address) <= high
        and int(other.broadcast_address) >= low
        for other in taken
    )
