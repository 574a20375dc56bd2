"""The leases and records of a cluster as one listing of the store shows them: who has what, for commands. Pure, but for
`read`."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tulle.config.network import NetworkConfig, parse_network_config
from tulle.contracts.store import Compare, KeyValue, Store, unchanged
from tulle.lease.acquire import Keys
from tulle.lease.claims import owns
from tulle.lease.codec import decode_lease, decode_member, short_key
from tulle.lease.model import Lease, Member
from tulle.net.prefix import Prefix, parse_subnet_key
from tulle.store.items import Item, Undecodable


class Registered(msgspec.Struct, frozen=True):
    """As the store was when it was read. What is done on the strength of it must compare that it still is."""

    keys: Keys
    config: KeyValue | None
    leases: dict[str, Item[Lease]]
    """By short key, in key order."""
    unreadable: dict[str, str]
    """Why, by short key of the lease."""
    members: dict[str, Item[Member]]
    """By name."""
    alive: dict[str, KeyValue]
    """By name."""

    def owner(self, key: str) -> Item[Member] | None:
        """The record that rightly names this lease."""
        lease = self.leases[key]
        return next((one for one in self.members.values() if owns(one, lease)), None)

    def of_node(self, name: str) -> list[str]:
        """Keys of the leases that this node's record rightly names."""
        record = self.members.get(name)
        return [] if record is None else [key for key, lease in self.leases.items() if owns(record, lease)]

    def overlapping(self, prefixes: tuple[Prefix, ...], *, but: str) -> Iterator[str]:
        """Keys of leases that share addresses with these."""
        for key in self.leases:
            taken = parse_subnet_key(key) or ()
            if key != but and any(a.version == b.version and a.overlaps(b) for a in taken for b in prefixes):
                yield key

    def still(self, key: str) -> Compare:
        """That this full key is as it was read."""
        name = short_key(key)
        of_kind = self.leases if key.startswith(self.keys.subnets) else self.members
        if key.startswith(self.keys.all_alive):
            known = self.alive.get(name)
        else:
            known = of_kind[name].kv if name in of_kind else None
        return unchanged(key, known.modified) if known is not None else Compare(key, "version", 0)

    def network(self) -> NetworkConfig | None:
        """Raises ConfigError."""
        return None if self.config is None else parse_network_config(self.config.value)


async def read(store: Store, prefix: str) -> Registered:
    """Raises StoreError."""
    keys = Keys(prefix, "")
    leases: dict[str, Item[Lease]] = {}
    unreadable: dict[str, str] = {}
    for kv in (await store.list(keys.subnets)).items:
        lease = decode_lease(kv)
        name = kv.key.removeprefix(keys.subnets)
        leases[name] = Item(kv, lease if isinstance(lease, Lease) else None)
        if isinstance(lease, Undecodable):
            unreadable[name] = lease.reason
    members: dict[str, Item[Member]] = {}
    for kv in (await store.list(keys.members)).items:
        member = decode_member(kv)
        members[short_key(kv.key)] = Item(kv, member if isinstance(member, Member) else None)
    alive = {short_key(kv.key): kv for kv in (await store.list(keys.all_alive)).items}
    return Registered(keys, await store.get(keys.config), leases, unreadable, members, alive)
