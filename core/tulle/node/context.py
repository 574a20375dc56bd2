"""What core gives to a backend (`contracts.backend.BackendContext`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tulle.contracts.backend import Advertisement, DataPlane, JsonObject, Report, Underlay
from tulle.contracts.kernel import Kernel, LinkFacts, Wanted
from tulle.kernel.netlink import Netlink
from tulle.net.prefix import Prefix
from tulle.node.keeper import Keeper

PARTY = "backend"


async def follow_nothing(folder: str) -> AsyncGenerator[Mapping[str, bytes], None]:
    """Where there is no store."""
    yield {}
    await asyncio.Event().wait()


class Context(msgspec.Struct, kw_only=True):
    """Made once the underlay is known; `prefixes` is filled when there is a lease."""

    node: str
    underlay: Underlay
    networks: tuple[Prefix, ...]
    state_dir: Path
    dataplane: DataPlane
    kernel: Kernel
    on_publish: Callable[[Advertisement], Awaitable[None]]
    prefixes: tuple[Prefix, ...] = ()
    recalled: Advertisement | None = None
    on_again: Callable[[], None] = lambda: None
    on_follow: Callable[[str], AsyncGenerator[Mapping[str, bytes], None]] = follow_nothing
    on_second_dataplane: Callable[[str], DataPlane] = lambda name: NoDataPlane()

    def second_dataplane(self, name: str) -> DataPlane:
        return self.on_second_dataplane(name)

    def follow(self, folder: str) -> AsyncGenerator[Mapping[str, bytes], None]:
        return self.on_follow(folder)

    def again(self) -> None:
        self.on_again()

    async def publish(self, advertisement: Advertisement) -> None:
        await self.on_publish(advertisement)


class KeptKernel:
    """A party's part of what the keeper keeps (`contracts.kernel.Kernel`): the backend's, or a component's."""

    def __init__(self, keeper: Keeper, netlink: Netlink, party: str = PARTY) -> None:
        self._keeper = keeper
        self._netlink = netlink
        self._party = party

    async def want(self, wanted: Wanted) -> Report:
        self._keeper.want(self._party, wanted)
        return await self._keeper.settle(trusting=True)

    async def link(self, name: str) -> LinkFacts | None:
        return await self._netlink.link(name)


class NoDataPlane:
    """Before there is a lease there is nothing to carry: misuse by a backend is raised."""

    async def configure(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("a backend may use the data plane from `start` on")

    async def set_peers(self, peers: Sequence[Any]) -> None:
        raise RuntimeError("a backend may use the data plane from `start` on")

    def status(self) -> JsonObject:
        return {}
