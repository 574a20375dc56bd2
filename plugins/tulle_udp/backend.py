"""The udp backend: one TUN with a route to the cluster network, one UDP socket a family, peers by their address."""

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
)
from tulle.contracts.encapsulation import EncapsulationRef
from tulle_udp.options import OVERHEAD_BYTES, UdpOptions

DEVICE = "tulle0"
SMALLEST_MTU = {4: 576, 6: 1280}  # RFC 791 (every host must take 576), RFC 8200 section 5


class UdpBackend:
    """See the module and `contracts.backend.Backend`."""

    def __init__(self, options: UdpOptions) -> None:
        self._options = options
        self._ctx: BackendContext | None = None
        self._mtu = 0
        self._device: Device | None = None

    def overhead_bytes(self, outer: Family) -> int:
        return OVERHEAD_BYTES[outer]

    async def advertise(self, ctx: BackendContext) -> Advertisement:
        """As flannel's udp: the lease names no backend, the address is all that a peer needs."""
        return Advertisement(type="")

    async def start(self, ctx: BackendContext) -> None:
        """Raises ValueError where the underlay leaves no room for a packet."""
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
        families = set(self._ctx.underlay.addresses)
        found: list[DataPeer] = []
        problems: list[Problem] = []
        for peer in peers:
            endpoints = tuple(
                Endpoint(str(one), self._options.port) for one in peer.endpoints if one.version in families
            )
            if peer.backend not in ("", "udp"):
                message = (
                    f"its lease says backend {peer.backend}, this node runs udp: give both the same config"
                )
                problems.append(Problem("peer-backend-differs", peer.node, message))
            elif not endpoints:
                message = "it has no address of a family that this node's underlay has"
                problems.append(Problem("peer-no-endpoint", peer.node, message))
            else:
                found.append(DataPeer(peer.key, tuple(str(one) for one in peer.prefixes), endpoints))
        await self._ctx.dataplane.set_peers(found)
        return Report(problems=tuple(problems))

    def mtu(self) -> int:
        return self._mtu

    def status(self) -> JsonObject:
        return {
            "device": DEVICE,
            "port": self._options.port,
            "mtu": self._mtu,
            "source_check": self._options.source_check,
        }

    def owned(self) -> Owned:
        if self._device is None:
            return Owned()
        return Owned(links=(DEVICE,), routes=self._device.routes)

    async def stop(self, remove: bool) -> None:
        """Core keeps or removes the device and the forwarder; there is nothing else."""
