"""An encapsulation: what a pod's packet looks like between two nodes. Sans-I/O; it runs in the forwarder.

It never sees a socket, an address or a clock. A *path* is an opaque number for (socket, remote address and port,
local address); the engine knows what it stands for. `now` is monotonic seconds. Bytes that come from the network
are data: what is wrong with them is counted and dropped, never raised.

The engine looks up the peer before `seal` (longest prefix match of the inner destination) and checks the inner
source after `open` (it must lie in a prefix of one of the peers that `open` names), for every encapsulation alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NewType, Protocol

import msgspec

PathId = NewType("PathId", int)
PeerId = NewType("PeerId", int)

Buffer = bytes | bytearray | memoryview

Datagram = Sequence[Buffer]
"""One datagram as the pieces that are written one after the other (no copy to join them)."""

Outgoing = tuple[PathId, Sequence[Datagram]]
"""Datagrams for one path, in order. Neighbours of equal size may leave in one system call."""

Delivery = tuple[frozenset[PeerId], Sequence[Buffer]]
"""Inner packets, and the peers that can have sent them. Empty: nobody we know, the engine drops them."""


class EncapsulationRef(msgspec.Struct, frozen=True):
    """Names an encapsulation and its settings, as the backend asks the forwarder for it."""

    name: str
    options: Mapping[str, Any] = {}


class Opened(msgspec.Struct):
    """What a batch of received datagrams held."""

    deliveries: Sequence[Delivery]
    others: Sequence[Buffer] = ()
    """Datagrams that are not transport data (handshakes, cookies): the engine gives them to `control`."""


class Paths(Protocol):
    """What the engine tells an encapsulation about paths."""

    def peers_at(self, path: PathId) -> frozenset[PeerId]:
        """The peers that have an endpoint at this path's remote address, whatever the port (NAT)."""
        ...


class Encapsulation(Protocol):
    """See the module. Proven by `tulle.testing.encapsulation_contract.EncapsulationContract`.

    The factory of the spec is called as `factory(paths, random_bytes) -> Encapsulation`, before the forwarder drops its
    rights; settings come later, by `configure`.
    """

    def configure(self, options: Mapping[str, Any], now: float) -> None:
        """The node's settings, of `EncapsulationRef.options` (a private key, say). Called before the first peer and
        whenever they change. Raises ValueError on what is wrong with them."""
        ...

    def set_peer(
        self, peer: PeerId, paths: Sequence[PathId], settings: Mapping[str, Any], now: float
    ) -> None:
        """A peer is new or has changed. `paths`: its endpoints, best first. Sessions in being go on."""
        ...

    def remove_peer(self, peer: PeerId, now: float) -> None:
        """It is gone: forget its sessions and timers. Nothing happens where it is not known."""
        ...

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        """Inner packets for one peer into datagrams. The buffers are the engine's and are used again after
        the returned datagrams were sent: copy what you keep."""
        ...

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        """Datagrams received on one path into inner packets, in order. The engine may write them after further calls:
        do not use their buffers again."""
        ...

    def control(self, path: PathId, datagram: Buffer, now: float) -> Sequence[Outgoing]:
        """A datagram that `open` called "other". Returns what is to be answered."""
        ...

    def tick(self, now: float) -> tuple[Sequence[Outgoing], float | None]:
        """Do what time asks for; returns datagrams and when to call again (monotonic seconds, None: never).
        Called once after each change and then at the deadlines."""
        ...

    def export_state(self) -> bytes:
        """Sessions, for a hand-over to another forwarder; b"" where there are none. After a state was given away
        nothing is sealed any more: two that seal in one session would use a counter twice."""
        ...

    def import_state(self, state: bytes) -> None:
        """What another's `export_state` gave, after `configure` and all `set_peer`s and before the first
        packet. Sessions of unknown peers are left out. ValueError where it cannot be read: new sessions begin then."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Totals since the start, by stable kebab-case names; drops are named "drop-<reason>"."""
        ...
