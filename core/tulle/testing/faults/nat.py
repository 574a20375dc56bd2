"""A simulated NAT: hosts behind one public address, whose mappings end, move or are forgotten. Pure.

Mappings are endpoint-independent (RFC 4787, section 4.1): one inside address and port has one public port, whoever it
talks to. Filtering is address and port-dependent where `strict` (section 5), else whoever knows the port comes in.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

FIRST_PORT = 40000


class Address(NamedTuple):
    """Of a socket."""

    host: str
    port: int


class _Mapping:
    def __init__(self, inside: Address, now: float) -> None:
        self.inside = inside
        self.used = now
        self.talked_to: set[Address] = set()


class Nat:
    """See the module. Made by `Network.add_nat`."""

    def __init__(self, public: str, inside: Collection[str], *, strict: bool, idle_s: float) -> None:
        self.public = public
        self.inside = frozenset(inside)
        self._strict = strict
        self._idle_s = idle_s
        self._mappings: dict[int, _Mapping] = {}
        self._next_port = FIRST_PORT

    # Faults

    def rebind(self) -> None:
        """Forget all mappings, as a router does that restarts: who sends next has another port."""
        self._mappings.clear()

    def move(self, public: str) -> None:
        """Another public address, as a provider gives overnight: and other ports."""
        self.public = public
        self.rebind()

    # Traffic

    def outward(self, now: float, source: Address, destination: Address) -> Address:
        """The public source of a datagram that leaves."""
        for port, mapping in tuple(self._mappings.items()):
            if now - mapping.used > self._idle_s:
                del self._mappings[port]
        port = next((port for port, mapping in self._mappings.items() if mapping.inside == source), 0)
        if not port:
            port, self._next_port = self._next_port, self._next_port + 1
            self._mappings[port] = _Mapping(source, now)
        mapping = self._mappings[port]
        mapping.used = now
        mapping.talked_to.add(destination)
        return Address(self.public, port)

    def inward(self, now: float, source: Address, destination: Address) -> Address | None:
        """Whom a datagram to a public port is for; None where it is let in to nobody. What comes in keeps no mapping
        alive (RFC 4787, section 4.3)."""
        mapping = self._mappings.get(destination.port)
        if mapping is None or now - mapping.used > self._idle_s:
            return None
        if self._strict and source not in mapping.talked_to:
            return None
        return mapping.inside
