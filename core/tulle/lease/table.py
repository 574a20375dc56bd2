"""The lease table: leases and member records in, the other nodes as backends see them out. Pure.

A change costs what changed, not what is there: the table keeps each peer and makes anew those that a change touches.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tulle.contracts.backend import Peer
from tulle.lease.claims import owns
from tulle.lease.codec import short_key
from tulle.lease.model import Lease, Member
from tulle.lease.overlaps import Overlaps
from tulle.net.prefix import Address, Prefix
from tulle.store.items import Changes, Item


class PeerTable:
    """Only leases inside the cluster's networks become peers, and none that overlaps our own subnet or an older lease:
    a stray key must not draw other traffic. Why a lease was left out stands in `refused`."""

    def __init__(self, own_key: str, own: Sequence[Prefix], networks: Sequence[Prefix]) -> None:
        self.refused: dict[str, str] = {}
        """By lease key, for people."""
        self._own_key = own_key
        self._own = [_span(prefix) for prefix in own]
        self._networks = [_span(prefix) for prefix in networks]
        self._leases: dict[str, Item[Lease]] = {}  # by short key
        self._members: dict[str, Item[Member]] = {}  # by name
        self._claimed: dict[str, set[str]] = {}  # lease key -> names of the records that name it
        self._overlaps = Overlaps()
        self._peers: dict[str, Peer] = {}

    def peers(self) -> tuple[Peer, ...]:
        return tuple(self._peers.values())

    def apply(self, leases: Changes[Lease] | None, members: Changes[Member] | None) -> bool:
        """Take changes in. Returns whether the peers are different now."""
        touched: set[str] = set()
        if members is not None:
            for key in members.deleted:
                touched |= self._set_member(short_key(key), None)
            for key, record in members.upserted.items():
                touched |= self._set_member(short_key(key), record)
        if leases is not None:
            for key in leases.deleted:
                touched |= self._set_lease(short_key(key), None)
            for key, item in leases.upserted.items():
                touched |= self._set_lease(short_key(key), item)
        return self._remake(touched)

    def _set_lease(self, key: str, item: Item[Lease] | None) -> set[str]:
        """Returns the lease keys that this may touch: its own, and those that it stood in the way of or now does."""
        before = self._overlaps.of(key) if key in self._leases else set()
        lease = item.value if item is not None else None
        if item is None:
            self._leases.pop(key, None)
        else:
            self._leases[key] = item
        sound = lease is not None and self._outside(lease) is None
        self._overlaps.put(key, lease.prefixes if lease is not None and sound else ())
        return {key} | before | self._overlaps.of(key)

    def _set_member(self, name: str, record: Item[Member] | None) -> set[str]:
        """Returns the lease keys that this may touch."""
        before = self._members.pop(name, None)
        old = before.value.subnets if before is not None and before.value is not None else ()
        new = record.value.subnets if record is not None and record.value is not None else ()
        for key in old:
            self._claimed[key].discard(name)
            if not self._claimed[key]:
                del self._claimed[key]
        for key in new:
            self._claimed.setdefault(key, set()).add(name)
        if record is not None:
            self._members[name] = record
        return {*old, *new}

    def _remake(self, touched: Collection[str]) -> bool:
        changed = False
        for key in touched:
            before = self._peers.get(key)
            item = self._leases.get(key)
            after = self._peer(item) if item is not None and key != self._own_key else None
            if item is None:
                self.refused.pop(key, None)
            if after == before:
                continue
            changed = True
            if after is None:
                del self._peers[key]
            else:
                self._peers[key] = after
        return changed

    def _peer(self, item: Item[Lease]) -> Peer | None:
        lease = item.value
        self.refused.pop(short_key(item.kv.key), None)
        if lease is None:
            return None
        wrong = self._outside(lease) or self._in_the_way(item)
        if wrong is not None:
            self.refused[lease.key] = wrong
            return None
        member = self._owner(item)
        endpoints = _endpoints(lease, member)
        if lease.reserved and not endpoints:
            return None  # its node has never been there
        return Peer(
            key=lease.key,
            node=member.name if member is not None else lease.key,
            prefixes=lease.prefixes,
            endpoints=endpoints,
            backend=lease.backend,
            data=_object(lease.data),
            data_v6=_object(lease.data_v6),
            revision=lease.revision,
            data_text=lease.data if isinstance(lease.data, str) else None,
        )

    def _outside(self, lease: Lease) -> str | None:
        for prefix in lease.prefixes:
            span = _span(prefix)
            if not any(_inside(span, network) for network in self._networks):
                return f"{prefix} lies outside the cluster's networks"
            if any(_overlap(span, own) for own in self._own):
                return f"{prefix} overlaps our own subnet"
        return None

    def _in_the_way(self, item: Item[Lease]) -> str | None:
        """Of leases that share addresses the first that came keeps them."""
        others = (self._leases[key] for key in self._overlaps.of(short_key(item.kv.key)))
        older = [short_key(one.kv.key) for one in others if one.kv.created < item.kv.created]
        return f"it overlaps {', '.join(sorted(older))}, which is older" if older else None

    def _owner(self, item: Item[Lease]) -> Member | None:
        for name in sorted(self._claimed.get(short_key(item.kv.key), ())):
            record = self._members[name]
            if owns(record, item):
                return record.value
        return None


_Span = tuple[int, int, int]
"""Family, first and last address as numbers: compared 20,000 times, so not with `ipaddress`."""


def _span(prefix: Prefix) -> _Span:
    first = int(prefix.network_address)
    return prefix.version, first, first | int(prefix.hostmask)


def _inside(inner: _Span, outer: _Span) -> bool:
    return inner[0] == outer[0] and outer[1] <= inner[1] and inner[2] <= outer[2]


def _overlap(one: _Span, other: _Span) -> bool:
    return one[0] == other[0] and one[1] <= other[2] and other[1] <= one[2]


def _endpoints(lease: Lease, member: Member | None) -> tuple[Address, ...]:
    """What the lease says comes first: flannel knows nothing else."""
    public = [lease.public[family] for family in sorted(lease.public)]
    return tuple(dict.fromkeys([*public, *(member.endpoints if member is not None else ())]))


def _object(data: object) -> Mapping[str, object]:
    return data if isinstance(data, dict) else {}
