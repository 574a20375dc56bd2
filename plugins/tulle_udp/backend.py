"""The udp backend: one TUN with a route to the cluster network, one UDP socket a family, peers by their address. With
DirectRouting, plain routes beside them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from tulle.contracts.backend import (
    Advertisement,
    BackendContext,
    DataPeer,
    Device,
    Endpoint,
    Family,
    JsonObject,
    Listen,
    Owned,
    Peer,
    Problem,
    Report,
    Underlay,
)
from tulle.contracts.encapsulation import EncapsulationRef
from tulle.contracts.kernel import Wanted, WantedRoute
from tulle.direct import direct_routes, filter_problems
from tulle.kernel.reverse_path import FilterWatch
from tulle.peers import PeerMemo
from tulle_udp.options import OVERHEAD_BYTES, UdpOptions

DEVICE = "tulle0"
SMALLEST_MTU = {4: 576, 6: 1280}  # RFC 791 (every host must take 576), RFC 8200 section 5

Found = tuple[DataPeer | None, tuple[WantedRoute, ...], Problem | None]
"""What became of a peer: what the forwarder is told, its plain routes, what is wrong."""


class UdpBackend:
    """See the module and `contracts.backend.Backend`."""

    def __init__(self, options: UdpOptions) -> None:
        self._options = options
        self._ctx: BackendContext | None = None
        self._mtu = 0
        self._device: Device | None = None
        self._found: PeerMemo[Found] = PeerMemo(self._look)
        self._made_for: Underlay | None = None
        """For which underlay `_found` holds."""
        self._routes: tuple[WantedRoute, ...] = ()
        """Plain ones."""
        self._filters = FilterWatch(self._again)

    def overhead_bytes(self, outer: Family) -> int:
        return OVERHEAD_BYTES[outer]

    async def advertise(self, ctx: BackendContext) -> Advertisement:
        """As flannel's udp: the lease names no backend, the address is all that a peer needs."""
        return Advertisement(type="")

    async def start(self, ctx: BackendContext) -> None:
        """Raises ValueError where the underlay leaves no room for a packet."""
        if self._options.direct_routing and self._ctx is None:
            await ctx.kernel.want(
                Wanted(partial=True)
            )  # an earlier run's plain routes stay until peers are known
        self._ctx = ctx
        outer: Family = 4 if 4 in ctx.underlay.addresses else 6
        underlay = self._options.mtu or ctx.underlay.mtu
        self._mtu = underlay - self.overhead_bytes(outer)
        smallest = max(SMALLEST_MTU[network.version] for network in ctx.networks)
        if self._mtu < smallest:
            raise ValueError(
                f"{ctx.underlay.link}: an MTU of {underlay} leaves {self._mtu} bytes for a packet, "
                f"{smallest} are needed; raise the MTU of the interface"
            )
        self._device = Device(
            name=DEVICE,
            mtu=self._mtu,
            addresses=tuple(
                ip_network((prefix.network_address, prefix.max_prefixlen)) for prefix in ctx.prefixes
            ),
            routes=ctx.networks,
        )
        listen = [
            Listen(family=family, port=self._options.port, fragment=True) for family in ctx.underlay.addresses
        ]
        await ctx.dataplane.configure(
            self._device,
            listen,
            EncapsulationRef("udp"),
            source_check=self._options.source_check,
        )

    async def reconcile(self, peers: Sequence[Peer]) -> Report:
        assert self._ctx is not None, "start comes first"
        if self._made_for != self._ctx.underlay:
            self._made_for = self._ctx.underlay
            self._found.forget()
        self._found.update(peers)
        found = self._found.values()
        self._routes = tuple(route for _, routes, _ in found for route in routes)
        await self._ctx.dataplane.set_peers([one for one, _, _ in found if one is not None])
        problems = tuple(problem for _, _, problem in found if problem is not None)
        if self._options.direct_routing:
            await self._ctx.kernel.want(Wanted(routes=self._routes))
            links = (self._ctx.underlay.link, DEVICE) if self._routes else ()
            problems += filter_problems(self._filters.look_at(links))
        return Report(problems=problems)

    def _look(self, peer: Peer) -> Found:
        """A peer with plain routes is told to the forwarder as well: what it sends through the tunnel is let in."""
        assert self._ctx is not None
        endpoints = tuple(
            Endpoint(str(one), self._options.port)
            for one in peer.endpoints
            if one.version in self._ctx.underlay.addresses
        )
        if peer.backend not in ("", "udp"):
            message = f"its lease says backend {peer.backend}, this node runs udp: give both the same config"
            return None, (), Problem("peer-backend-differs", peer.node, message)
        if not endpoints:
            message = "it has no address of a family that this node's underlay has"
            return None, (), Problem("peer-no-endpoint", peer.node, message)
        routes = direct_routes(peer, self._ctx.underlay) if self._options.direct_routing else ()
        return DataPeer(peer.key, tuple(str(one) for one in peer.prefixes), endpoints), routes, None

    def _again(self) -> None:
        if self._ctx is not None:
            self._ctx.again()

    def mtu(self) -> int:
        return self._mtu

    def status(self) -> JsonObject:
        return {
            "device": DEVICE,
            "port": self._options.port,
            "mtu": self._mtu,
            "source_check": self._options.source_check,
            "direct_routing": self._options.direct_routing,
            "direct_peers": sum(bool(routes) for _, routes, _ in self._found.values()),
        }

    def owned(self) -> Owned:
        if self._device is None:
            return Owned()
        plain = tuple(one.destination for one in self._routes)
        return Owned(links=(DEVICE,), routes=(*self._device.routes, *plain))

    async def stop(self, remove: bool) -> None:
        """Core keeps or removes the device and the forwarder."""
        self._filters.close()
        if remove and self._ctx is not None:
            if self._options.direct_routing:
                await self._ctx.kernel.want(Wanted())
            self._ctx, self._routes = None, ()
