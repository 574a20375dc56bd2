"""Reserving a subnet for a node, and taking a lease or a reservation away. Pure: what is registered goes in, a
transaction comes out, or the reason why not.

A reservation is flannel's: a lease key without a TTL. Whose it is says the address in its value (all that flannel
knows), or a member record of that name with an empty id, written in the same transaction: a tulled that starts under
this name owns it like any lease of an earlier run, and keeps it without a TTL. A node that is not there yet has no
address: its lease says 0.0.0.0, which flannel reads and nobody takes for an address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

import msgspec

from tulle.contracts.store import NO_LEASE, Compare, Delete, KeyValue, Op, Put, Store
from tulle.lease.allocate import fits
from tulle.lease.codec import encode_lease, encode_member
from tulle.lease.model import RESERVED, Lease, Member
from tulle.lease.registered import Registered
from tulle.net.prefix import Address, Family, Prefix, parse_prefix, parse_subnet_key, subnet_key

NOBODY: Mapping[Family, Address] = {4: IPv4Address(0)}


class Refused(Exception):
    """It cannot be done as asked. The text says why and what to do."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction, and what it does in words."""

    lines: tuple[str, ...]
    """For people, in the infinitive or as a statement: what is done."""
    conditions: tuple[Compare, ...] = ()
    operations: tuple[Op, ...] = ()
    """Empty: all is as it was asked for already."""
    alive: tuple[str, ...] = ()
    """Nodes that use this now."""
    unknown: tuple[str, ...] = ()
    """Leases of which nobody can say whether their node runs."""

    async def carry_out(self, store: Store) -> None:
        """Raises Refused where the store has changed meanwhile, StoreError."""
        if self.operations and not (await store.transact(self.conditions, self.operations)).succeeded:
            raise Refused("the store changed meanwhile and nothing was done: try again")


def parse_subnet(text: str) -> tuple[Prefix, ...]:
    """ "10.5.52.0/24", "10.5.52.0/24,fd00::/64", or a lease's key. Raises ValueError."""
    found = parse_subnet_key(text)
    if found is not None:
        return found
    prefixes = tuple(
        sorted((parse_prefix(one.strip()) for one in text.split(",")), key=lambda one: one.version)
    )
    subnet_key(prefixes)
    return prefixes


def reserve(
    known: Registered, prefixes: tuple[Prefix, ...], node: str, public: Mapping[Family, Address]
) -> Change:
    """For the node of this name, for flannel's node of this address, or for both. Raises Refused, ConfigError."""
    key = subnet_key(prefixes)
    _check_place(known, prefixes, key)
    lease = known.leases.get(key)
    if lease is not None:
        return _make_lasting(known, lease.kv, key, node, public)
    _check_free_of_others(known, node)
    value = encode_lease(Lease(key, prefixes, dict(public) or dict(NOBODY)))
    full = known.keys.subnets + key
    conditions, operations = [known.still(full)], [Put(full, value)]
    if node:
        conditions += [known.still(known.keys.members + node), known.still(known.keys.all_alive + node)]
        operations.append(_record(known, key, node, public))
    whose = " and ".join(
        [*([f"node {node}"] if node else []), *(f"address {one}" for one in public.values())]
    )
    return Change(
        lines=(f"{_named(prefixes)}: reserved for {whose}",),
        conditions=tuple(conditions),
        operations=tuple(operations),
    )


def _record(known: Registered, key: str, node: str, public: Mapping[Family, Address]) -> Put:
    member = Member(node, "", "", (key,), tuple(public.values()), {RESERVED: True})
    return Put(known.keys.members + node, encode_member(member))


def _check_place(known: Registered, prefixes: tuple[Prefix, ...], key: str) -> None:
    network = known.network()
    if network is None:
        raise Refused(f"there is no network config at {known.keys.config}: write one with `tulle init` first")
    ranges = [family.subnets() for family in network.families]
    if not fits(ranges, key):
        form = ",".join(str(one.nth(0)) for one in ranges)
        among = " and ".join(f"{one.nth(0)} to {one.nth(one.count - 1)}" for one in ranges)
        raise Refused(
            f"{_named(prefixes)} is none of the subnets that the network config has to give, {among}: "
            f"give one in the form {form}"
        )
    for other in known.overlapping(prefixes, but=key):
        raise Refused(
            f"{_named(prefixes)} overlaps the lease {other}{_of(known, other)}: give another subnet"
        )


def _check_free_of_others(known: Registered, node: str) -> None:
    """The node has no subnet and takes none at this moment."""
    for key in known.of_node(node):
        raise Refused(
            f"node {node} has the subnet {key} already: reserve that one, or release it first "
            f"(tulle down --release on the node, or tulle leases release {node})"
        )
    if node in known.alive:
        raise Refused(f"node {node} runs and has no subnet yet: wait until it has, or end its tulled")


def _make_lasting(
    known: Registered, lease: KeyValue, key: str, node: str, public: Mapping[Family, Address]
) -> Change:
    """A lease that is there already loses its TTL. Values stay as they are: who keeps it knows it by them."""
    owner = known.owner(key)
    value = known.leases[key].value
    if value is None:
        raise Refused(
            f"the lease {key} cannot be read ({known.unreadable[key]}): tulle leases release {key} first"
        )
    name = owner.value.name if owner is not None and owner.value is not None else ""
    same_address = bool(public) and all(value.public.get(family) == one for family, one in public.items())
    mine = name == node if node and name else same_address
    if not mine or (public and not same_address):
        addresses = ", ".join(map(str, value.public.values())) or "no address"
        raise Refused(
            f"{key} belongs to {f'node {name}' if name else 'a node without a name, as flannel has them'} "
            f"({addresses}): give another subnet, or tulle leases release {key} first"
        )
    conditions, operations = [known.still(lease.key)], [Put(lease.key, lease.value)]
    if owner is not None:
        conditions.append(known.still(owner.kv.key))
        operations.append(Put(owner.kv.key, owner.kv.value))
    elif node:
        _check_free_of_others(known, node)
        conditions += [known.still(known.keys.members + node), known.still(known.keys.all_alive + node)]
        operations.append(_record(known, key, node, public))
    elif lease.lease == NO_LEASE:
        return Change(lines=(f"{key}: is reserved already",))
    if lease.lease == NO_LEASE and owner is not None:
        return Change(lines=(f"{key}: is reserved for node {name} already",))
    whose = f"node {node or name}" if node or name else f"address {', '.join(map(str, public.values()))}"
    return Change(
        lines=(f"{key}: reserved for {whose}, which has it now",),
        conditions=tuple(conditions),
        operations=tuple(operations),
    )


def release(known: Registered, what: str) -> Change:
    """By subnet or node. Raises Refused where there is no such thing."""
    keys = _asked_for(known, what)
    lines, operations, alive, unknown = [], [], [], []
    conditions: list[Compare] = []
    for key in keys:
        owner = known.owner(key)
        name = owner.value.name if owner is not None and owner.value is not None else ""
        kind = "reservation" if known.leases[key].kv.lease == NO_LEASE else "lease"
        lines.append(f"{kind} {key}{_of(known, key)}")
        conditions.append(known.still(known.keys.subnets + key))
        operations.append(Delete(known.keys.subnets + key))
        if owner is None:
            if kind == "lease":
                unknown.append(key)
            continue
        conditions += [known.still(owner.kv.key), known.still(known.keys.all_alive + name)]
        if name in known.alive:
            alive.append(name)
        operations.append(Delete(owner.kv.key))
    return Change(
        lines=tuple(lines),
        conditions=tuple(dict.fromkeys(conditions)),
        operations=tuple(dict.fromkeys(operations)),
        alive=tuple(dict.fromkeys(alive)),
        unknown=tuple(unknown),
    )


def _asked_for(known: Registered, what: str) -> list[str]:
    if what in known.leases:
        return [what]
    try:
        prefixes: Sequence[Prefix] = parse_subnet(what)
    except ValueError:
        found = known.of_node(what)
    else:
        found = [key for key in known.leases if set(prefixes) <= set(parse_subnet_key(key) or ())]
    if not found:
        raise Refused(f"nothing is leased to or reserved for {what!r}: `tulle leases` shows what is")
    return found


def _of(known: Registered, key: str) -> str:
    owner = known.owner(key)
    return f" of node {owner.value.name}" if owner is not None and owner.value is not None else ""


def _named(prefixes: Sequence[Prefix]) -> str:
    return ", ".join(map(str, prefixes))
