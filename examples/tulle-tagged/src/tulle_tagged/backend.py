"""The node's side: a TUN with a route to the cluster network, UDP sockets, and the peers of our cluster."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

import msgspec
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
from tulle.net.packet import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES

from tulle_tagged.encapsulation import TAG_BYTES
from tulle_tagged.options import TaggedOptions

NAME = "tagged"
DEVICE = "tagged0"
UDP_HEADER_BYTES = 8  # RFC 768
OUTER_HEADER_BYTES = {4: IPV4_HEADER_BYTES, 6: IPV6_HEADER_BYTES}
SMALLEST_MTU = {4: 576, 6: 1280}  # RFC 791 (every host must take 576), RFC 8200 section 5


class TaggedBackend:
    """See `tulle.contracts.backend.Backend`."""

    def __init__(self, options: TaggedOptions) -> None:
        self._options = options
        self._ctx: BackendContext | None = None
        self._device: Device | None = None

    def overhead_bytes(self, outer: Family) -> int:
        return OUTER_HEADER_BYTES[outer] + UDP_HEADER_BYTES + TAG_BYTES

    async def advertise(self, ctx: BackendContext) -> Advertisement:
        return Advertisement(type=NAME, data=msgspec.to_builtins(self._options))

    async def start(self, ctx: BackendContext) -> None:
        """Raises ValueError where the underlay leaves no room for a packet."""
        families = tuple(ctx.underlay.addresses)
        mtu = ctx.underlay.mtu - max(self.overhead_bytes(family) for family in families)
        smallest = max(SMALLEST_MTU[network.version] for network in ctx.networks)
        if mtu < smallest:
            raise ValueError(
                f"{ctx.underlay.link}: an MTU of {ctx.underlay.mtu} leaves {mtu} bytes for a packet, "
                f"{smallest} are needed; raise the MTU of the interface"
            )
        own = tuple(ip_network((one.network_address, one.max_prefixlen)) for one in ctx.prefixes)
        self._ctx = ctx
        self._device = Device(name=DEVICE, mtu=mtu, addresses=own, routes=ctx.networks)
        await ctx.dataplane.configure(
            self._device,
            [Listen(family=family, port=self._options.port, fragment=True) for family in families],
            EncapsulationRef(NAME, {"cluster": self._options.cluster}),
        )

    async def reconcile(self, peers: Sequence[Peer]) -> Report:
        assert self._ctx is not None, "start comes first"
        wanted: list[DataPeer] = []
        problems: list[Problem] = []
        for peer in peers:
            found = self._data_peer(peer, self._ctx)
            if isinstance(found, DataPeer):
                wanted.append(found)
            else:
                problems.append(found)
        await self._ctx.dataplane.set_peers(wanted)
        return Report(problems=tuple(problems))

    def _data_peer(self, peer: Peer, ctx: BackendContext) -> DataPeer | Problem:
        """The peer as the forwarder is told of it, or why it is left out."""
        if peer.backend != NAME:
            message = f"its lease says backend {peer.backend or 'udp'}, not {NAME}: give both one config"
            return Problem("peer-backend-differs", peer.node, message)
        try:
            told = msgspec.convert(peer.data, TaggedOptions)
        except msgspec.ValidationError as error:
            message = f"its lease cannot be read ({error}): see the log of tulled there"
            return Problem("peer-lease-unreadable", peer.node, message)
        if told.cluster != self._options.cluster:
            message = f"its cluster is {told.cluster!r}, ours {self._options.cluster!r}: give both one config"
            return Problem("peer-cluster-differs", peer.node, message)
        endpoints = tuple(
            Endpoint(str(one), told.port) for one in peer.endpoints if one.version in ctx.underlay.addresses
        )
        if not endpoints:
            message = "it has no address of a family that this node's underlay has: give it a --public-ip"
            return Problem("peer-no-endpoint", peer.node, message)
        return DataPeer(peer.key, tuple(str(one) for one in peer.prefixes), endpoints)

    def mtu(self) -> int:
        return self._device.mtu if self._device else 0

    def status(self) -> JsonObject:
        options = self._options
        return {"device": DEVICE, "mtu": self.mtu(), "cluster": options.cluster, "port": options.port}

    def owned(self) -> Owned:
        return Owned(links=(DEVICE,), routes=self._device.routes) if self._device else Owned()

    async def stop(self, remove: bool) -> None:
        """Core keeps or removes the device and the forwarder; there is nothing else."""
