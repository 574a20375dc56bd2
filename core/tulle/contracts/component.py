"""A component: anything beside the backend that turns cluster state into kernel state or answers.

The service proxy, DNS, network policy and masquerade are components. Life as a backend's: `start`, then
`reconcile` with whole snapshots, then `stop`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tulle.contracts.backend import JsonObject, Peer, Report
from tulle.net.prefix import Prefix


class ComponentContext(msgspec.Struct, frozen=True):
    """What core gives to a component."""

    node: str
    networks: tuple[Prefix, ...]
    prefixes: tuple[Prefix, ...]
    state_dir: Path
    run_dir: Path


class Snapshot(msgspec.Struct, frozen=True):
    """The cluster as this node knows it."""

    peers: Sequence[Peer]


class Component(Protocol):
    """The factory of the spec is called as `factory(settings: Mapping) -> Component`, with the plugin's settings
    from "Tulle" in the network config, already checked."""

    async def start(self, ctx: ComponentContext) -> None:
        """Once, when the node has its subnet and the backend runs. What it raises is reported, and neither packets nor
        other components wait for it."""
        ...

    async def reconcile(self, snapshot: Snapshot) -> Report:
        """Make what is there be what the snapshot wants. Idempotent."""
        ...

    def ready(self) -> Sequence[str]:
        """Why it is not ready; empty when it is."""
        ...

    def status(self) -> JsonObject:
        """For `tulle status`: JSON-ready, no secrets. Answered at once from what is known."""
        ...

    async def stop(self, remove: bool) -> None:
        """False leaves kernel state for the next start, True is `tulle down`."""
        ...


Settings = Mapping[str, Any]
