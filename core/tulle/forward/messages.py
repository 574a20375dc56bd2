"""What tulled and the forwarder say to each other, beside what any worker says (`tulle.worker.messages`).

State is desired state. A message is whole (`base` None) or a difference from generation `base`; where that is not
what the forwarder has, it answers `Resend` and gets the whole. Large states come in parts of PART_PEERS peers, so that
no part holds up the packets for long.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tulle.contracts.backend import DataPeer
from tulle.contracts.engine import Local
from tulle.worker import messages as worker

PART_PEERS = 256
"""About 0.4 ms to decode and apply (20,000 peers take 44 ms in one piece)."""


class State(msgspec.Struct, tag="state", kw_only=True):
    """What the forwarder is to be."""

    base: int | None
    """The generation that this differs from; None: whole."""
    generation: int
    part: int = 0
    """0 begins a generation."""
    more: bool = False
    """True: further parts of the same generation follow."""
    local: Local | None = None
    """None: as before. In the first part."""
    options: dict[str, Any] | None = None
    """The encapsulation's options."""
    peers: list[DataPeer] = []
    removed: list[str] = []
    keep_peers: bool = False
    """Of a whole one: tulled does not know the peers yet, so those that are here stay until it does."""


class Applied(msgspec.Struct, tag="applied"):
    """The generation is in force, but for what `errors` says."""

    generation: int
    errors: list[str] = []


class Resend(msgspec.Struct, tag="resend"):
    """The difference does not fit: send the whole state."""

    generation: int


class AskStats(msgspec.Struct, tag="ask-stats"):
    """Answer with `Stats`."""

    peers: bool = True


class Stats(msgspec.Struct, tag="stats", kw_only=True):
    """Totals since the forwarder's start; one that took over goes on from those of the one before."""

    generation: int
    counters: dict[str, int]
    peers: dict[str, dict[str, Any]] = {}
    """Traffic by the names of `Engine.peer_counters`, and what the encapsulation reports."""
    lost_devices: int = 0
    carried: bool = False
    """Whether those of the one before are in them."""


class Carry(msgspec.Struct, tag="carry", kw_only=True):
    """To one that takes over: the totals of the one before. The answer is `Stats`."""

    counters: dict[str, int]
    peers: dict[str, dict[str, Any]] = {}


class DeviceLost(msgspec.Struct, tag="device-lost"):
    """The kernel took TUN queues away; the forwarder waits for new descriptors."""

    count: int


Message = worker.Common | State | Applied | Resend | AskStats | Stats | Carry | DeviceLost

_decoder = msgspec.msgpack.Decoder(Message)


def decode(data: bytes) -> Message:
    """Raises msgspec.DecodeError on anything else, and nothing but that."""
    try:
        found: Message = _decoder.decode(data)
        return found
    except (UnicodeDecodeError, RecursionError) as error:  # which msgspec lets through
        raise msgspec.DecodeError(str(error)) from None


def parts(state: State) -> list[State]:
    """One state as messages of at most PART_PEERS peers each."""
    chunks = [state.peers[i : i + PART_PEERS] for i in range(0, len(state.peers), PART_PEERS)] or [[]]
    return [
        State(
            base=state.base,
            generation=state.generation,
            part=number,
            more=number < len(chunks) - 1,
            local=state.local if number == 0 else None,
            options=state.options if number == 0 else None,
            peers=chunk,
            removed=state.removed if number == 0 else [],
            keep_peers=state.keep_peers,
        )
        for number, chunk in enumerate(chunks)
    ]
