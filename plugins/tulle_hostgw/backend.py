"""The host-gw backend: states the routes to all peers, whole, and core keeps them in the kernel."""

from __future__ import annotations

from collections.abc import Sequence

from tulle.contracts.backend import (
    Advertisement,
    BackendContext,
    Family,
    JsonObject,
    Owned,
    Peer,
    Problem,
    Report,
    Underlay,
)
from tulle.contracts.kernel import Wanted, WantedRoute
from tulle.peers import PeerMemo
from tulle_hostgw.routes import TYPE, routes_to


class HostGwBackend:
    """See the module and `contracts.backend.Backend`."""

    def __init__(self) -> None:
        self._ctx: BackendContext | None = None
        self._mtu = 0
        self._underlay: Underlay | None = None
        """For which `_found` holds."""
        self._found: PeerMemo[tuple[WantedRoute, ...] | Problem] = PeerMemo(self._look)

    def overhead_bytes(self, outer: Family) -> int:
        return 0

    async def advertise(self, ctx: BackendContext) -> Advertisement:
        return Advertisement(type=TYPE)

    async def start(self, ctx: BackendContext) -> None:
        """Raises OSError where others would be told an address that they cannot use as a gateway."""
        _check_public(ctx.underlay)
        if self._ctx is None:  # routes of an earlier run stay until the peers are known
            await ctx.kernel.want(Wanted(partial=True))
        self._ctx, self._mtu = ctx, ctx.underlay.mtu

    async def reconcile(self, peers: Sequence[Peer]) -> Report:
        assert self._ctx is not None, "start comes first"
        if self._ctx.underlay != self._underlay:
            self._underlay = self._ctx.underlay
            self._found.forget()
        self._found.update(peers)
        await self._ctx.kernel.want(Wanted(routes=tuple(self._wanted())))
        return Report(problems=tuple(self._problems()))

    def _look(self, peer: Peer) -> tuple[WantedRoute, ...] | Problem:
        assert self._underlay is not None
        return routes_to(peer, self._underlay)

    def mtu(self) -> int:
        """The underlay's: nothing is wrapped around a packet."""
        return self._mtu

    def status(self) -> JsonObject:
        link = self._underlay.link if self._underlay is not None else ""
        return {
            "link": link,
            "mtu": self._mtu,
            "routes": len(self._wanted()),
            "refused_peers": len(self._problems()),
        }

    def owned(self) -> Owned:
        return Owned(routes=tuple(route.destination for route in self._wanted()))

    async def stop(self, remove: bool) -> None:
        """False: the kernel goes on alone. True: the routes go."""
        if remove and self._ctx is not None:
            await self._ctx.kernel.want(Wanted())
            self._found.forget()
            self._underlay = self._ctx = None

    def _wanted(self) -> list[WantedRoute]:
        return [route for found in self._found.values() if isinstance(found, tuple) for route in found]

    def _problems(self) -> list[Problem]:
        return [found for found in self._found.values() if isinstance(found, Problem)]


def _check_public(underlay: Underlay) -> None:
    for family, public in underlay.public.items():
        if public != underlay.addresses.get(family) and not any(
            public.version == prefix.version and public in prefix for prefix in underlay.connected
        ):
            raise OSError(
                f"{public}, which other nodes are told (--public-ip), lies on no network of {underlay.link}, so it "
                "cannot be their gateway to this node's pods; leave that flag out, or choose a backend with a tunnel"
            )
