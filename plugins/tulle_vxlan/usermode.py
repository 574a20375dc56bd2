"""VXLAN in user space: one TUN for both families, one UDP socket a family, the same wire as the kernel's devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_network

from tulle.contracts.backend import (
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
)
from tulle.contracts.encapsulation import EncapsulationRef
from tulle.contracts.kernel import Wanted, WantedLink, WantedRoute
from tulle.direct import direct_routes
from tulle.peers import PeerMemo
from tulle_vxlan.options import VxlanOptions, device_mtu
from tulle_vxlan.peers import device_name, vteps

DEVICE = "tulle0"
"""Not flannel.<VNI>: a TUN of that name would stand in the way of the device when the mode changes."""
ENCAPSULATION = "vxlan"

Found = tuple[DataPeer | None, tuple[WantedRoute, ...], tuple[Problem, ...]]
"""What became of a peer: what the forwarder is told, its plain routes, what is wrong."""


class UserMode:
    """One life of the backend in this mode: `start`, `reconcile` ..., `stop`."""

    name = "userspace"

    def __init__(self, options: VxlanOptions, macs: Mapping[Family, str]) -> None:
        self._options, self._macs = options, macs
        self._device: Device | None = None
        self._found: PeerMemo[Found] = PeerMemo(self._look)
        self._made_for: object = None
        """For which underlay `_found` holds."""
        self._routes: tuple[WantedRoute, ...] = ()
        """Plain ones."""
        self._stated: Wanted | None = None
        """What the kernel was last asked for here. Before the first peers an earlier run's plain routes stay."""
        self._ctx: BackendContext | None = None

    async def start(self, ctx: BackendContext) -> None:
        """Raises ValueError where the underlay cannot carry it, OSError where the kernel refuses something now."""
        self._device = Device(
            name=DEVICE,
            mtu=min(device_mtu(self._options, ctx.underlay, family) for family in self._macs),
            addresses=tuple(ip_network((one.network_address, one.max_prefixlen)) for one in ctx.prefixes),
            routes=ctx.networks,
        )
        if not await self._replace_kernels(ctx) and self._ctx is None and self._options.direct_routing:
            await ctx.kernel.want(
                Wanted(partial=True)
            )  # an earlier run's plain routes stay until peers are known
        macs = {str(family): mac for family, mac in self._macs.items()}
        await ctx.dataplane.configure(
            self._device,
            [Listen(family, self._options.udp_port, fragment=True) for family in self._macs],
            EncapsulationRef(
                ENCAPSULATION, {"vni": self._options.vni, "macs": macs, "mtu": self._device.mtu}
            ),
        )
        self._ctx = ctx

    async def _replace_kernels(self, ctx: BackendContext) -> bool:
        """The kernel's devices of an earlier run, or flannel's, hold the UDP port: they are marked as ours, and go.
        Whether there were any."""
        names = [device_name(self._options.vni, family) for family in self._macs]
        there = [one for name in names if (one := await ctx.kernel.link(name)) and one.vxlan is not None]
        if there:
            links = tuple(WantedLink(one.name, one.mtu, None) for one in there)
            await ctx.kernel.want(Wanted(links, partial=True))
            await ctx.kernel.want(Wanted())
        return bool(there)

    async def reconcile(self, peers: Sequence[Peer]) -> tuple[Problem, ...]:
        assert self._ctx is not None, "start comes first"
        if self._made_for != self._ctx.underlay:
            self._made_for = self._ctx.underlay
            self._found.forget()
        self._found.update(peers)
        found = self._found.values()
        self._routes = tuple(route for _, routes, _ in found for route in routes)
        await self._ctx.dataplane.set_peers([one for one, _, _ in found if one is not None])
        wanted = Wanted(routes=self._routes)
        if wanted != self._stated:
            await self._ctx.kernel.want(wanted)
            self._stated = wanted
        return tuple(problem for _, _, problems in found for problem in problems)

    def _look(self, peer: Peer) -> Found:
        """A peer with a plain route is told to the forwarder as well: what it sends through the tunnel is let in."""
        assert self._ctx is not None
        found, problems = vteps(peer, self._macs, self._options.vni)
        if not found:
            return None, (), problems
        told = DataPeer(
            peer.key,
            tuple(str(one.prefix) for one in found),
            tuple(Endpoint(str(one.outer), self._options.udp_port) for one in found),
            {"macs": {str(one.prefix.version): one.mac for one in found}},
        )
        direct = direct_routes(peer, self._ctx.underlay) if self._options.direct_routing else ()
        reachable = {one.prefix for one in found}
        return told, tuple(one for one in direct if one.destination in reachable), problems

    @property
    def direct_peers(self) -> int:
        return sum(bool(routes) for _, routes, _ in self._found.values())

    def mtu(self) -> int:
        """One device for both families: the smaller of what they leave."""
        return self._device.mtu if self._device is not None else 0

    def status(self) -> JsonObject:
        return {"device": DEVICE, "devices": [DEVICE]}

    def owned(self) -> Owned:
        if self._device is None:
            return Owned()
        plain = tuple(one.destination for one in self._routes)
        return Owned((DEVICE,), (*self._device.routes, *plain))

    async def remove(self) -> None:
        """Core removes the device and ends the forwarder."""
        if self._ctx is not None:
            await self._ctx.kernel.want(Wanted())
