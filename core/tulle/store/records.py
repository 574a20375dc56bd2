"""What we own in the store, and which of the keys that are there are ours. Pure.

Ownership is never guessed from a value alone: two nodes behind one NAT write the same bytes. It follows from the
revision that we last knew, from the id of our store lease, which nobody else can have, or from a whole set that was
written by one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tulle.contracts.store import (
    NO_LEASE,
    Compare,
    Get,
    KeyValue,
    LeaseId,
    Op,
    Put,
    Revision,
    unchanged,
)

NEVER = Revision(0)
"""The `modified` of an absent key."""

Present = Mapping[str, KeyValue | None]


class Records:
    """Keys that are written together, and what is known of them.

    `lasting` keys have no TTL (a reservation); the others hang on `lease`, the id of our lease at the store.
    """

    def __init__(
        self,
        wanted: Mapping[str, bytes],
        *,
        known: Iterable[KeyValue] = (),
        lease: LeaseId = NO_LEASE,
        lasting: Collection[str] = (),
    ) -> None:
        self.wanted = dict(wanted)
        self.known = {kv.key: kv for kv in known}
        self.lease = lease
        self.lasting = set(lasting)
        self._tried: list[dict[str, bytes]] = []  # what we tried to write, with an outcome still unknown

    def want(self, wanted: Mapping[str, bytes]) -> None:
        """Other values for the same keys. Raises ValueError for other keys."""
        if wanted.keys() != self.wanted.keys():
            raise ValueError(f"a record set keeps its keys: {sorted(self.wanted)}, not {sorted(wanted)}")
        self.wanted = dict(wanted)

    def lease_of(self, key: str) -> LeaseId:
        return NO_LEASE if key in self.lasting else self.lease

    def needs_lease(self) -> bool:
        """A put needs a lease that we do not have."""
        return self.lease == NO_LEASE and bool(self.wanted.keys() - self.lasting)

    def needs_write(self) -> bool:
        """What is known to be there is not what we want."""
        for key, value in self.wanted.items():
            known = self.known.get(key)
            if known is None or known.value != value or known.lease != self.lease_of(key):
                return True
        return False

    def compares(self) -> list[Compare]:
        """That each key is as we know it: unchanged, or absent."""
        return [
            unchanged(key, self.known[key].modified if key in self.known else NEVER) for key in self.wanted
        ]

    def puts(self) -> list[Op]:
        """All keys, also those that are right, so that a set always has one revision. Remembers the try."""
        if self.wanted not in self._tried:
            self._tried.append(dict(self.wanted))
        return [Put(key, value, self.lease_of(key)) for key, value in self.wanted.items()]

    def gets(self) -> list[Op]:
        return [Get(key) for key in self.wanted]

    def written(self, revision: Revision) -> None:
        """The puts were executed at that revision."""
        for key, value in self.wanted.items():
            before = self.known.get(key)
            self.known[key] = KeyValue(
                key,
                value,
                before.created if before else revision,
                revision,
                before.version + 1 if before else 1,
                self.lease_of(key),
            )
        self._tried.clear()

    def lease_gone(self) -> None:
        """Our lease at the store is over, and with it the keys that hung on it."""
        for key in [key for key, kv in self.known.items() if kv.lease == self.lease != NO_LEASE]:
            del self.known[key]
        self.lease = NO_LEASE

    def recognise(self, present: Present) -> bool:
        """Whether what is there is the whole of a write that we tried, at one revision: then its answer was
        lost on the way, and it is known from here on."""
        found = {key: present.get(key) for key in self.wanted}
        kvs = [kv for kv in found.values() if kv is not None]
        if len(kvs) != len(found) or len({kv.modified for kv in kvs}) != 1:
            return False
        if any(kv.lease != self.lease_of(kv.key) for kv in kvs):
            return False
        if {kv.key: kv.value for kv in kvs} not in self._tried:
            return False
        self._know(kvs)
        return True

    def judge(self, present: Present) -> KeyValue | None:
        """Look at what is there where it is not what we knew. Takes over what is ours; returns the first key
        that now is another's."""
        if self.recognise(present):
            return None
        foreign = None
        for key in self.wanted:
            kv, known = present.get(key), self.known.get(key)
            if kv is None:
                self.known.pop(key, None)  # deleted by somebody: to be put again
            elif known is not None and kv.modified == known.modified:
                continue
            elif self._ours(kv, known):
                self._know([kv])
            else:
                foreign = foreign or kv
        return foreign

    def _ours(self, kv: KeyValue, known: KeyValue | None) -> bool:
        if kv.lease != NO_LEASE:
            return kv.lease == self.lease
        if known is None or kv.created != known.created:
            return False
        # Our key, never deleted since, with our value and no TTL: somebody made a reservation of it.
        return kv.value in {known.value, self.wanted[kv.key], *(tried[kv.key] for tried in self._tried)}

    def _know(self, kvs: Iterable[KeyValue]) -> None:
        for kv in kvs:
            self.known[kv.key] = kv
            if kv.lease == NO_LEASE:
                self.lasting.add(kv.key)
