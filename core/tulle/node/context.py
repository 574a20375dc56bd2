"""What core gives to a backend (`contracts.backend.BackendContext`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from tulle.contracts.backend import Advertisement, DataPlane, Underlay
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
