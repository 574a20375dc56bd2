"""VXLAN by the kernel: a device a family, and for each peer a route, a neighbour and an FDB entry. Core makes the
devices and keeps it all; the kernel carries the packets."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from itertools import chain

import msgspec

from tulle.contracts.backend import BackendContext, Family, JsonObject, Owned, Peer, Problem
from tulle.contracts.kernel import ALIAS, Wanted, WantedLink, WantedVxlan
from tulle.peers import PeerMemo
from tulle_vxlan.options import VxlanOptions, device_mtu
from tulle_vxlan.peers import Reach, SharedMacs, device_name, own_address, reach, without_shared_macs
from tulle_vxlan.usermode import DEVICE as TUN

CHECKSUM_MENDED = (5, 7)
"""Older kernels spoil the outer checksum of what is masqueraded, and connections hang for 63 s (flannel issue 1279;
Linux 5.7, "netfilter: nat: never update the UDP checksum when it's 0"). calico has the same limit (felix 2811)."""
IMPOSSIBLE = "device-impossible"
"""Code of the problem by which core says that this kernel will never make such a device."""


class NoKernelVxlan(Exception):
    """The kernel has no VXLAN, or no right to make a device is to be had; the text says which."""


class KernelMode:
    """One life of the backend in this mode: `start`, `reconcile` ..., `stop`."""

    name = "kernel"

    def __init__(self, options: VxlanOptions, macs: Mapping[Family, str], kernel: str = "") -> None:
        """`kernel` is a release ("5.4.0-generic"); "": that of the running one."""
        self._options, self._macs = options, macs
        self._tx_checksum = checksum_wanted(options.tx_checksum, kernel or platform.release())
        self._devices: dict[Family, WantedLink] = {}
        self._reaches: PeerMemo[Reach] = PeerMemo(self._reach)
        self._shared = SharedMacs(macs.values())
        self._made_for: object = None
        """For which devices and underlay `_reaches` holds."""
        self._peers: Wanted | None = None
        """What the peers need; None before the first of them."""
        self._ctx: BackendContext | None = None

    async def start(self, ctx: BackendContext) -> None:
        """Raises ValueError where the underlay cannot carry it, NoKernelVxlan, and OSError where a device cannot be had
        now."""
        self._ctx = ctx
        self._devices = {family: self._device(ctx, family) for family in self._macs}
        report = await ctx.kernel.want(self._wanted(ctx))
        names = {device.name for device in self._devices.values()}
        refused = [one for one in report.problems if one.subject in names]
        if any(one.code == IMPOSSIBLE for one in refused):
            raise NoKernelVxlan("; ".join(one.message for one in refused if one.code == IMPOSSIBLE))
        if refused and not await self._forwarder_to_end(ctx):
            raise OSError("; ".join(one.message for one in refused))

    async def _forwarder_to_end(self, ctx: BackendContext) -> bool:
        """Whether the devices are there and only wait for their UDP port, which a forwarder of ours still has: this
        node ran in user space before. Core ends it when the first peers are known; then the devices come up."""
        tun = await ctx.kernel.link(TUN)
        if tun is None or tun.alias != ALIAS:
            return False
        there = [await ctx.kernel.link(device.name) for device in self._devices.values()]
        return all(one is not None and one.vxlan is not None for one in there)

    def _device(self, ctx: BackendContext, family: Family) -> WantedLink:
        options, underlay = self._options, ctx.underlay
        vxlan = WantedVxlan(
            vni=options.vni,
            port=options.udp_port,
            link=underlay.link,
            local=underlay.addresses[family],
            mac=self._macs[family],
            gbp=options.gbp,
            learning=options.learning,
        )
        name, mtu = device_name(options.vni, family), device_mtu(options, underlay, family)
        return WantedLink(name, mtu, None, vxlan=vxlan, tx_checksum=self._tx_checksum)

    async def reconcile(self, peers: Sequence[Peer]) -> tuple[Problem, ...]:
        """What the kernel changed for it is in the log, and is remembered, by then."""
        assert self._ctx is not None, "start comes first"
        made_for = (self._device_names(), self._ctx.underlay if self._options.direct_routing else None)
        if made_for != self._made_for:
            self._made_for = made_for
            self._reaches.forget()
            self._shared = SharedMacs(self._macs.values())
        shared = self._shared.change(*self._reaches.update(peers))
        reaches = self._reaches.values()
        problems: Sequence[Problem] = ()
        if shared:
            reaches, problems = without_shared_macs(self._reaches.pairs(), self._macs.values())
        self._peers = Wanted(
            routes=tuple(chain.from_iterable([found.routes for found in reaches])),
            neighbours=tuple(chain.from_iterable([found.neighbours for found in reaches])),
            fdb=tuple(chain.from_iterable([found.fdb for found in reaches])),
        )
        await self._ctx.kernel.want(self._wanted(self._ctx))
        odd = [found.problems for found in self._reaches.values() if found.problems]
        return (*chain.from_iterable(odd), *problems)

    def _reach(self, peer: Peer) -> Reach:
        assert self._ctx is not None
        underlay = self._ctx.underlay if self._options.direct_routing else None
        return reach(peer, self._device_names(), self._options.vni, underlay)

    def _device_names(self) -> dict[Family, str]:
        return {family: device.name for family, device in self._devices.items()}

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

    @property
    def direct_peers(self) -> int:
        return sum(found.direct for found in self._reaches.values())

    def mtu(self) -> int:
        """The smallest of the devices': a pod of two families has one interface."""
        return min((device.mtu for device in self._devices.values()), default=0)

    def status(self) -> JsonObject:
        names = [device.name for device in self._devices.values()]
        checksum = {None: "as it is", True: "on", False: "off"}[self._tx_checksum]
        return {
            "device": names[0] if names else "",
            "devices": names,
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

    async def remove(self) -> None:
        """Devices go, and with them all that lies on them."""
        if self._ctx is not None:
            await self._ctx.kernel.want(Wanted())


def checksum_wanted(asked: str, kernel: str) -> bool | None:
    """ "auto" is off only where the kernel has the fault: off turns segmentation off too. None: leave it as it is."""
    if asked != "auto":
        return asked == "on"
    release = re.match(r"(\d+)\.(\d+)", kernel)
    faulty = release is not None and (int(release[1]), int(release[2])) < CHECKSUM_MENDED
    return False if faulty else None
