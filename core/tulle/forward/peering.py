"""Who is behind which inner address, and from whom a packet may come.

Asked for each packet by way of two dictionaries of answers, `known` and `accepted_from`, that any change empties; what
is not in them goes the slow way through the prefix tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from tulle.contracts.backend import DataPeer
from tulle.contracts.encapsulation import PathId, PeerId
from tulle.contracts.engine import Local
from tulle.forward.paths import PathTable
from tulle.net.prefix import parse_prefix
from tulle.net.table import PrefixTable

CACHE_ENTRIES = 65536
"""A cache that has grown to this is emptied: a scan of the network must not fill the memory."""

Flow = tuple[bytes, bytes]
"""Inner source and destination."""


class Traffic:
    """Of one peer."""

    __slots__ = ("bytes_in", "bytes_out", "key", "last_seen", "packets_in", "packets_out")

    def __init__(self, key: str) -> None:
        self.key = key
        self.packets_in = self.bytes_in = self.packets_out = self.bytes_out = 0
        self.last_seen = float("-inf")

    def report(self, now: float) -> dict[str, float]:
        """As `Engine.peer_counters` names it."""
        return {
            "packets-out": self.packets_out,
            "bytes-out": self.bytes_out,
            "packets-in": self.packets_in,
            "bytes-in": self.bytes_in,
            **({"last-seen": now - self.last_seen} if self.packets_in else {}),
        }


class Peering:
    """The peers and this node, as desired; counts what it refuses in `counters`."""

    def __init__(self, paths: PathTable, counters: Counter[str]) -> None:
        self.known: dict[bytes, PeerId | None] = {}
        """Inner destination -> peer, of the destinations asked for since the last change."""
        self.traffic: dict[PeerId, Traffic] = {}
        self.icmp_sources: dict[int, bytes] = {}
        """IP version -> source address of the ICMP errors made here."""
        self._paths = paths
        self._counters = counters
        self._routes: PrefixTable[PeerId] = PrefixTable()
        self._ours: PrefixTable[bool] = PrefixTable()
        self._checks_source = self._checks_destination = True
        self._definitions: dict[PeerId, DataPeer] = {}
        self._ids: dict[str, PeerId] = {}
        self._next_id = 1
        self._accepted: dict[frozenset[PeerId], dict[Flow, Traffic]] = {}

    # --- changes ------------------------------------------------------------------------------------------------

    def set_local(self, local: Local) -> None:
        """Raises ValueError where something in it is no prefix or address."""
        ours: PrefixTable[bool] = PrefixTable()
        for prefix in local.prefixes:
            ours.insert(parse_prefix(prefix), True)
        self._ours = ours
        self._checks_source = local.source_check != "peer"
        self._checks_destination = local.source_check not in ("peer", "source")
        packed = [ip_address(one).packed for one in local.icmp_sources]
        self.icmp_sources = {4 if len(one) == 4 else 6: one for one in packed}
        self._forget_answers()

    def set_peer(self, peer: DataPeer) -> tuple[PeerId, Sequence[PathId]]:
        """Insert or replace by `peer.key`; returns its number, which stays the same, and its paths, best first.
        Raises ValueError where something in it is no prefix or address; `remove_peer` it then."""
        prefixes = [parse_prefix(one) for one in peer.prefixes]
        number = self._ids.get(peer.key)
        if number is None:
            number = PeerId(self._next_id)
            self._next_id += 1
            self._ids[peer.key] = number
            self.traffic[number] = Traffic(peer.key)
        else:
            self._withdraw_routes(number)
        self._definitions[number] = peer
        for prefix in prefixes:
            self._routes.insert(prefix, number)
        self._forget_answers()
        return number, self._paths.set_peer(number, peer.endpoints)

    def remove_peer(self, key: str) -> PeerId | None:
        """The number that it had; None where it was not there."""
        number = self._ids.pop(key, None)
        if number is not None:
            self._withdraw_routes(number)
            del self.traffic[number], self._definitions[number]
            self._paths.remove_peer(number)
            self._forget_answers()
        return number

    def _withdraw_routes(self, number: PeerId) -> None:
        for text in self._definitions[number].prefixes:
            prefix = parse_prefix(text)
            if self._routes.get(prefix) == number:
                self._routes.remove(prefix)

    def _forget_answers(self) -> None:
        self.known.clear()
        self._accepted.clear()

    # --- questions ----------------------------------------------------------------------------------------------

    def peer_of(self, destination: bytes) -> PeerId | None:
        """The slow way to an answer of `known`, which remembers it."""
        if len(self.known) >= CACHE_ENTRIES:
            self.known.clear()
        peer = self.known[destination] = self._routes.lookup(destination)
        return peer

    def accepted_from(self, senders: frozenset[PeerId]) -> dict[Flow, Traffic]:
        """The flows that one of these has been found to be allowed, and whose they are. Valid until the next change."""
        accepted = self._accepted.get(senders)
        if accepted is None:
            accepted = self._accepted[senders] = {}
        return accepted

    def accept(self, senders: frozenset[PeerId], flow: Flow) -> Traffic | None:
        """The slow way to an answer of `accepted_from`, which remembers it. None, and counted, where a packet of this
        flow may not pass. `senders`: at least one."""
        source, target = flow
        owner = self._routes.lookup(source)
        if owner is None or owner not in senders:
            if self._checks_source:
                self._counters["drop-source"] += 1
                return None
            owner = min(senders)
        if self._checks_destination and not self._ours.lookup(target):
            self._counters["drop-destination"] += 1
            return None
        accepted = self.accepted_from(senders)
        if len(accepted) >= CACHE_ENTRIES:
            accepted.clear()
        traffic = accepted[flow] = self.traffic[owner]
        return traffic

    def report(
        self, now: float, beside: Mapping[PeerId, Mapping[str, Any]] | None = None
    ) -> Mapping[str, Mapping[str, Any]]:
        """Traffic by peer key, and what is known `beside` it."""
        more = beside or {}
        return {one.key: {**more.get(peer, {}), **one.report(now)} for peer, one in self.traffic.items()}
