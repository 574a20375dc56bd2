"""A component: anything beside the backend that turns cluster state into kernel state or answers.

The service proxy, DNS, network policy and masquerade are components. Life as a backend's: `start`, then
`reconcile` with whole snapshots, then `stop`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tulle.contracts.backend import JsonObject, Peer, Problem, Report
from tulle.contracts.kernel import Kernel
from tulle.net.prefix import Prefix


class ComponentContext(msgspec.Struct, frozen=True):
    """What core gives to a component."""

    node: str
    networks: tuple[Prefix, ...]
    """The cluster networks, one for each family in use."""
    prefixes: tuple[Prefix, ...]
    """Our own pod subnets."""
    state_dir: Path
    run_dir: Path
    options: Mapping[str, Any] = {}
    """The values of all plugins' own flags (`tulle_options`), by name."""
    enable_nftables: bool | None = None
    """EnableNFTables of the network config; None where that does not say."""
    kernel: Kernel | None = None
    """Routes that the component wants. None only in tests of components that want none."""
    mended: Callable[[Sequence[str]], None] = lambda lines: None
    """To be told what was not as wanted and was put right between two reconciles: a line each, for log and status."""
    suffers: Callable[[Sequence[Problem]], None] = lambda problems: None
    """To be told what does not work now, between two reconciles: all of it each time."""


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

    async def stop(self, remove: bool) -> Sequence[str] | None:
        """False leaves kernel state for the next start. True is `tulle down`: a line for each thing that was taken
        away, for people."""
        ...


Settings = Mapping[str, Any]
