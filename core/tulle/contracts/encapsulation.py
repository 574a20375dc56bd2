"""An encapsulation: what a pod's packet looks like between two nodes. Sans-I/O; it runs in the forwarder.

It never sees a socket or a clock. A *path* is a number for where datagrams go to or come from; only who must know the
address behind it (cookies that are bound to it, peers that move) asks `Paths`. `now` is seconds of CLOCK_BOOTTIME: it
never goes back, and it counts the time that the machine sleeps. Bytes that come from the network are data: what is
wrong with them is counted and dropped, never raised.

The engine looks up the peer before `seal` (longest prefix match of the inner destination) and checks the inner
source after `open` (it must lie in a prefix of one of the peers that `open` names), for every encapsulation alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NewType, Protocol

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
    """Secrets may lie here."""

    def __repr__(self) -> str:
        return f"EncapsulationRef({self.name!r}, options hidden)"


class Opened(msgspec.Struct):
    """What a batch of received datagrams held."""

    deliveries: Sequence[Delivery]
    others: Sequence[Buffer] = ()
    """Datagrams that are not transport data (handshakes, cookies): the engine gives them to `control`."""
    outgoing: Sequence[Outgoing] = ()
    """What is to be sent because of them (an answer, what waited for a session)."""


class Remote(NamedTuple):
    """What a path stands for. Paths to one address that differ in `local` or `ds` are different paths."""

    address: bytes
    """Of the other side: 4 bytes, or 16."""
    port: int
    local: bytes = b""
    """Our own address: which they sent to, or to send from. Empty: not known, or the kernel chooses."""
    ds: int = 0
    """The DS byte of the outer header (IPv4's TOS, IPv6's traffic class; RFC 2474, RFC 3168)."""


class Paths(Protocol):
    """What the engine tells an encapsulation about paths."""

    def remote(self, path: PathId) -> Remote:
        """What it stands for. Only of the path that `open` or `control` was called with, and of peers' paths: others
        may be forgotten (KeyError)."""
        ...

    def path_to(self, remote: Remote) -> PathId:
        """The path to it, which need not have been seen before. Ask again for each send: the path of a place where
        no peer is said to be is forgotten when many others were seen after it."""
        ...

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

    def deadline(self, now: float) -> float | None:
        """When `tick` is to be called next; in the past means at once, None never. Asked before each wait for packets,
        so any other call may have changed it: asking alone puts nothing off."""
        ...

    def tick(self, now: float) -> Sequence[Outgoing]:
        """Do what time asks for. Called when the deadline has come; afterwards the deadline is a later one, or lets
        packets have their turn before it is called again."""
        ...

    def send_failed(self, path: PathId, error: int, now: float) -> None:
        """The kernel refused datagrams for this path with this errno (ENETUNREACH, EADDRNOTAVAIL, EINVAL: our own
        address may be gone). They are lost and counted by the engine."""
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

    def report(self, now: float) -> Mapping[PeerId, Mapping[str, Any]]:
        """What is known of peers beside the engine's counters, JSON-ready and without secrets: where a peer was heard
        ("endpoint": "192.0.2.1:51820"), when its last handshake was ("last-handshake", seconds ago). Empty for what
        knows nothing of peers."""
        ...
