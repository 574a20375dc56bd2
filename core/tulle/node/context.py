"""What core gives to a backend (`contracts.backend.BackendContext`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tulle.contracts.backend import Advertisement, DataPlane, JsonObject, Underlay
from tulle.net.prefix import Prefix


class Context(msgspec.Struct, kw_only=True):
    """Made once the underlay is known; `prefixes` is filled when there is a lease."""

    node: str
    underlay: Underlay
    networks: tuple[Prefix, ...]
    state_dir: Path
    dataplane: DataPlane
    on_publish: Callable[[Advertisement], Awaitable[None]]
    prefixes: tuple[Prefix, ...] = ()

    async def publish(self, advertisement: Advertisement) -> None:
        await self.on_publish(advertisement)


class NoDataPlane:
    """Before there is a lease there is nothing to carry: misuse by a backend is raised."""

    async def configure(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("a backend may use the data plane from `start` on")

    async def set_peers(self, peers: Sequence[Any]) -> None:
        raise RuntimeError("a backend may use the data plane from `start` on")

    def status(self) -> JsonObject:
        return {}
