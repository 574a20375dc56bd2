"""An engine: what moves packets between TUN queues and UDP sockets, for one encapsulation.

It runs in the forwarder and owns that process's loop. Every TUN has IFF_NO_PI, IFF_VNET_HDR and IFF_MULTI_QUEUE, so
each read and write carries the 10-byte virtio header, and an engine must be able to split a super-packet that an
earlier engine's offloads left in the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from socket import socket
from typing import Any, Protocol

import msgspec

from tulle.contracts.backend import DataPeer
from tulle.contracts.encapsulation import Encapsulation, Paths


class Local(msgspec.Struct, frozen=True):
    """What the engine must know of its own node."""

    prefixes: tuple[str, ...] = ()
    """Our pod subnets and the device's own addresses: what may be delivered here."""
    icmp_sources: tuple[str, ...] = ()
    """Source addresses of the ICMP errors that the engine makes, at most one a family."""
    mtu: int = 1472
    """The TUN's MTU: no inner packet is longer."""
    source_check: str = "strict"
    """See `contracts.backend.SourceCheck`."""


class Control(Protocol):
    """The forwarder's control side, as the engine's loop sees it."""

    stopping: bool
    """The loop ends when this is true."""

    def filenos(self) -> Sequence[int]:
        """Descriptors to wait for beside the packets'. May change after each `handle`."""
        ...

    def handle(self, fileno: int) -> None:
        """One of them is readable: about 1 ms of work, then it returns."""
        ...

    def idle(self, now: float) -> float | None:
        """Called between batches, at least at the deadline that it last returned (seconds of CLOCK_BOOTTIME)."""
        ...


class Engine(Protocol):
    """See the module. Proven by `tulle.testing.engine_contract.EngineContract`.

    The factory of the spec is called as `factory(make_encapsulation) -> Engine`, with a function that makes the
    encapsulation from the engine's `Paths`.
    """

    name: str

    def self_test(self) -> Sequence[str]:
        """Try what this kernel can do before anything depends on it; returns what had to be turned off, in
        words for people. Called once, before privileges are dropped."""
        ...

    def set_descriptors(self, queues: Sequence[int], sockets: Sequence[socket]) -> None:
        """TUN queues and bound UDP sockets, the whole set; earlier ones are closed by the caller afterwards."""
        ...

    def set_local(self, local: Local, options: Mapping[str, Any]) -> None:
        """What this node is, and the encapsulation's options."""
        ...

    def set_peer(self, peer: DataPeer) -> None:
        """Insert or replace by `peer.key`. Raises ValueError on settings that the encapsulation refuses."""
        ...

    def remove_peer(self, key: str) -> None:
        """From here on nothing is sent to it or taken from it. Nothing happens where it is not known."""
        ...

    def run(self, control: Control) -> None:
        """Move packets until `control.stopping`. Nothing from the network ends this."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Totals by stable names: packets-out, bytes-out, packets-in, bytes-in, drop-<reason>."""
        ...

    def peer_counters(self) -> Mapping[str, Mapping[str, Any]]:
        """By peer key: packets-out, bytes-out, packets-in, bytes-in, last-seen (seconds ago), and what the
        encapsulation reports of it."""
        ...

    def lost_devices(self) -> Sequence[int]:
        """Queues that the kernel took away (the link was deleted): they are no longer read. A change of
        this list wakes `Control.idle`."""
        ...

    def export_state(self) -> bytes:
        """The encapsulation's sessions, for a hand-over."""
        ...

    def import_state(self, state: bytes) -> None:
        """Hand it to the encapsulation. Comes after the peers and before the descriptors."""
        ...


MakeEncapsulation = Callable[[Paths], Encapsulation]
