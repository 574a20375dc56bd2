"""What any worker and its daemon say to each other. Fields may be added, never changed: msgspec ignores unknown ones.

The order on a new connection: the worker says `Hello`; the daemon answers with its own, which names the protocol
version they will speak; then the daemon gives `Descriptors` to a new worker, or asks a running one to `Export` them.
"""

from __future__ import annotations

from typing import Any

import msgspec

PROTOCOLS: tuple[int, ...] = (1, 2)
"""Versions this code speaks, best last. A daemon speaks to a worker one release older, and a worker to such a daemon.

1  the first
2  `Holding`: a worker says when it has taken descriptors into use
"""
HOLDING_SINCE = 2


class Hello(msgspec.Struct, tag="hello", kw_only=True):
    """Who is there."""

    protocols: list[int]
    version: str
    """tulle's version."""
    fingerprint: str = ""
    """What the worker runs (engine, encapsulation, version): where it differs from what the daemon would start, the
    worker is replaced."""
    pid: int = 0
    generation: int = 0
    """Of the state that the worker has; 0: none."""
    descriptors: list[str] = []
    """Names of the descriptors it holds."""
    notes: list[str] = []
    """What self-tests turned off and which parts of the sandbox hold, in words for people."""


class Refused(msgspec.Struct, tag="refused"):
    """The other end cannot be served; it closes."""

    reason: str


class Descriptors(msgspec.Struct, tag="descriptors"):
    """The whole set of descriptors, which come beside this frame in the order of the names."""

    names: list[str]


class Holding(msgspec.Struct, tag="holding"):
    """Answer to `Descriptors`, of a worker: from now on it works with these, and has let go of its earlier ones."""

    names: list[str]


class Export(msgspec.Struct, tag="export"):
    """To a running worker: answer with `Descriptors`. It goes on working."""


class ExportState(msgspec.Struct, tag="export-state"):
    """To a worker that is being replaced: stop for good what must not run twice, and answer with `StateBlob`. Where
    that is empty it goes on working until `Stop`."""


class StateBlob(msgspec.Struct, tag="state-blob"):
    """A worker's sessions, for its successor."""

    data: bytes


class Stop(msgspec.Struct, tag="stop"):
    """End."""


Common = Hello | Refused | Descriptors | Holding | Export | ExportState | StateBlob | Stop


def choose_protocol(theirs: list[int]) -> int | None:
    """The best version that both speak."""
    both = set(theirs) & set(PROTOCOLS)
    return max(both) if both else None


def encode(message: Any) -> bytes:
    return msgspec.msgpack.encode(message)
