"""Cryptokey routing (paper section 2): which peer an inner packet goes to, and which peer it may come from."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from tulle.net.prefix import Prefix
from tulle.net.table import PrefixTable

P = TypeVar("P", bound=Hashable)


class AllowedIps(Generic[P]):
    """A prefix belongs to one peer: whoever is given it takes it from the one that had it.

    The check of a source is the same look-up as that of a destination, longest prefix first: a peer with a wide
    prefix cannot send in the name of one that holds a part of it.
    """

    def __init__(self) -> None:
        self._table: PrefixTable[P] = PrefixTable()
        self._owned: dict[P, set[Prefix]] = {}

    def peer_of(self, address: bytes) -> P | None:
        """4 or 16 bytes; as destination: who gets it, as source: who may have sent it."""
        return self._table.lookup(address)

    def give(self, peer: P, prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            before = self._table.get(prefix)
            if before is not None:
                self.take(before, prefix)
            self._table.insert(prefix, peer)
            self._owned.setdefault(peer, set()).add(prefix)

    def replace(self, peer: P, prefixes: Iterable[Prefix]) -> None:
        """These and no others."""
        wanted = set(prefixes)
        for prefix in self.of(peer) - wanted:
            self.take(peer, prefix)
        self.give(peer, wanted)

    def take(self, peer: P, prefix: Prefix) -> None:
        """Away from this peer; of another nothing is taken."""
        owned = self._owned.get(peer, set())
        if prefix in owned:
            owned.remove(prefix)
            if not owned:
                del self._owned[peer]
            self._table.remove(prefix)

    def of(self, peer: P) -> frozenset[Prefix]:
        return frozenset(self._owned.get(peer, ()))
