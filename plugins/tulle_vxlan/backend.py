"""The vxlan backend: a VXLAN device a family, and for each peer a route, a neighbour and an FDB entry. Core makes the
devices and keeps it all; the kernel carries the packets."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from itertools import chain

import msgspec

from tulle.contracts.backend import (
    Advertisement,
    BackendContext,
    Family,
    JsonObject,
    Owned,
    Peer,
    Problem,
    Report,
)
from tulle.contracts.kernel import Wanted, WantedLink, WantedVxlan
from tulle_vxlan.options import OVERHEAD_BYTES, VxlanOptions
from tulle_vxlan.peers import (
    TYPE,
    Reach,
    derived_mac,
    device_name,
    own_address,
    reach,
    told_mac,
    without_shared_macs,
)

SMALLEST_MTU = {4: 576, 6: 1280}  # RFC 791 (every host must take 576), RFC 8200 section 5
CHECKSUM_MENDED = (5, 7)
"""Older kernels spoil the outer checksum of what is masqueraded, and connections hang for 63 s (flannel issue 1279;
Linux 5.7, "netfilter: nat: never update the UDP checksum when it's 0"). calico has the same limit (felix 2811)."""


class VxlanBackend:
    """See the module and `contracts.backend.Backend`."""

    def __init__(self, options: VxlanOptions, kernel: str = "") -> None:
        """`kernel` is a release ("5.4.0-generic"); "": that of the running one."""
        self._options = options
        self._tx_checksum = checksum_wanted(options.tx_checksum, kernel or platform.release())
        self._ctx: BackendContext | None = None
        self._macs: dict[Family, str] = {}
        self._devices: dict[Family, WantedLink] = {}
        self._known: dict[str, tuple[Peer, Reach]] = {}
        """By lease key."""
        self._peers: Wanted | None = None
        """What the peers need; None before the first of them."""
        self._problems: tuple[Problem, ...] = ()

    def overhead_bytes(self, outer: Family) -> int:
        return OVERHEAD_BYTES[outer]

    async def advertise(self, ctx: BackendContext) -> Advertisement:
        """The MAC of the device that is there, else of our lease, else one that follows from the node's name. Raises
        ValueError for a VNI that makes no name."""
        recalled = ctx.recalled if ctx.recalled is not None and ctx.recalled.type == TYPE else None
        for family in _families(ctx):
            there = await ctx.kernel.link(device_name(self._options.vni, family))
            mac = told_mac({"VtepMAC": there.mac}) if there is not None and there.vxlan is not None else None
            if mac is None and recalled is not None:
                mac = told_mac(recalled.data if family == 4 else recalled.data_v6)
            self._macs[family] = mac or derived_mac(ctx.node, self._options.vni, family)
        data = {family: {"VNI": self._options.vni, "VtepMAC": mac} for family, mac in self._macs.items()}
        return Advertisement(TYPE, data.get(4, {}), data.get(6, {}))

    async def start(self, ctx: BackendContext) -> None:
        """Raises ValueError where the underlay cannot carry it, OSError where a device cannot be had now."""
        if not self._macs:
            await self.advertise(ctx)
        self._ctx = ctx
        self._devices = {family: self._device(ctx, family) for family in _families(ctx)}
        report = await ctx.kernel.want(self._wanted(ctx))
        names = {device.name for device in self._devices.values()}
        refused = [one.message for one in report.problems if one.subject in names]
        if refused:
            raise OSError("; ".join(refused))

    def _device(self, ctx: BackendContext, family: Family) -> WantedLink:
        options, underlay = self._options, ctx.underlay
        if family not in underlay.addresses:
            raise ValueError(
                f"{underlay.link}: it has no IPv{family} address, and vxlan carries IPv{family} pods over IPv{family} "
                "alone; give it one, or choose another interface with --iface"
            )
        outer_mtu = options.mtu or underlay.mtu
        mtu = outer_mtu - OVERHEAD_BYTES[family]
        if mtu < SMALLEST_MTU[family]:
            raise ValueError(
                f"{underlay.link}: an MTU of {outer_mtu} leaves {mtu} bytes for a packet, {SMALLEST_MTU[family]} are "
                "needed; raise the MTU of the interface"
            )
        vxlan = WantedVxlan(
            vni=options.vni,
            port=options.udp_port,
            link=underlay.link,
            local=underlay.addresses[family],
            mac=self._macs[family],
            gbp=options.gbp,
            learning=options.learning,
        )
        name = device_name(options.vni, family)
        return WantedLink(name, mtu, None, vxlan=vxlan, tx_checksum=self._tx_checksum)

    async def reconcile(self, peers: Sequence[Peer]) -> Report:
        """What the kernel changed for it is in the log, and is remembered, by then."""
        assert self._ctx is not None, "start comes first"
        devices = {family: device.name for family, device in self._devices.items()}
        known, self._known = self._known, {}
        for peer in peers:
            before = known.get(peer.key)
            if before is not None and (before[0] is peer or before[0] == peer):
                self._known[peer.key] = before
            else:
                self._known[peer.key] = (peer, reach(peer, devices, self._options.vni))
        reaches, shared = without_shared_macs(self._known.values(), self._macs.values())
        self._peers = Wanted(
            routes=tuple(chain.from_iterable(found.routes for found in reaches)),
            neighbours=tuple(chain.from_iterable(found.neighbours for found in reaches)),
            fdb=tuple(chain.from_iterable(found.fdb for found in reaches)),
        )
        self._problems = (*(one for _, found in self._known.values() for one in found.problems), *shared)
        await self._ctx.kernel.want(self._wanted(self._ctx))
        return Report(problems=self._problems)

    def _wanted(self, ctx: BackendContext) -> Wanted:
        """Before the first peers are known, those of an earlier run stay."""
        peers = self._peers if self._peers is not None else Wanted(partial=True)
        return msgspec.structs.replace(
            peers,
            links=tuple(self._devices.values()),
            addresses=tuple(
                own_address(prefix, self._devices[prefix.version].name)
                for prefix in ctx.prefixes
                if prefix.version in self._devices
            ),
        )

    def mtu(self) -> int:
        """The smallest of the devices': a pod of two families has one interface."""
        return min((device.mtu for device in self._devices.values()), default=0)

    def status(self) -> JsonObject:
        names = [device.name for device in self._devices.values()]
        checksum = {None: "as it is", True: "on", False: "off"}[self._tx_checksum]
        return {
            "mode": "kernel",
            "device": names[0] if names else "",
            "devices": names,
            "macs": [self._macs[family] for family in self._devices],
            "vni": self._options.vni,
            "port": self._options.udp_port,
            "mtu": self.mtu(),
            "gbp": self._options.gbp,
            "learning": self._options.learning,
            "tx_checksum": checksum,
        }

    def owned(self) -> Owned:
        routes = self._peers.routes if self._peers is not None else ()
        return Owned(
            links=tuple(device.name for device in self._devices.values()),
            routes=tuple(one.destination for one in routes),
        )

    async def stop(self, remove: bool) -> None:
        """False: the kernel goes on alone. True: devices go, and with them all that lies on them."""
        if remove and self._ctx is not None:
            await self._ctx.kernel.want(Wanted())
            self._known, self._peers, self._devices, self._ctx = {}, None, {}, None


def _families(ctx: BackendContext) -> list[Family]:
    return sorted({network.version for network in ctx.networks})


def checksum_wanted(asked: str, kernel: str) -> bool | None:
    """ "auto" is off only where the kernel has the fault: off turns segmentation off too. None: leave it as it is."""
    if asked != "auto":
        return asked == "on"
    release = re.match(r"(\d+)\.(\d+)", kernel)
    faulty = release is not None and (int(release[1]), int(release[2])) < CHECKSUM_MENDED
    return False if faulty else None
