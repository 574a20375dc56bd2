"""The vxlan backend: which of its two modes runs, and what holds for both."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tulle.contracts.backend import (
    Advertisement,
    BackendContext,
    Family,
    JsonObject,
    Owned,
    Peer,
    Report,
)
from tulle.contracts.kernel import Wanted
from tulle.direct import filter_problems
from tulle.kernel.reverse_path import FilterWatch
from tulle_vxlan.kernelmode import KernelMode, NoKernelVxlan
from tulle_vxlan.options import NO_GBP, OVERHEAD_BYTES, VxlanOptions
from tulle_vxlan.peers import TYPE, derived_mac, device_name, told_mac
from tulle_vxlan.usermode import UserMode

log = logging.getLogger("tulle.vxlan")

Mode = KernelMode | UserMode


class VxlanBackend:
    """See the module and `contracts.backend.Backend`."""

    def __init__(self, options: VxlanOptions, kernel: str = "") -> None:
        """`kernel` is a release ("5.4.0-generic"); "": that of the running one."""
        self._options = options
        self._kernel = kernel
        self._ctx: BackendContext | None = None
        self._macs: dict[Family, str] = {}
        self._mode: Mode | None = None
        self._because = ""
        """Why that mode."""
        self._filters = FilterWatch(self._again)

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
        """Raises ValueError where this node can never do it, OSError where something cannot be had now."""
        if not self._macs:
            await self.advertise(ctx)
        _check_families(ctx)
        self._ctx = ctx
        if self._mode is not None:
            await self._mode.start(ctx)
        elif self._options.mode == "userspace":
            await self._run(UserMode(self._options, self._macs), ctx, "asked for by Mode")
        else:
            await self._start_kernels(ctx)

    async def _start_kernels(self, ctx: BackendContext) -> None:
        asked = self._options.mode == KernelMode.name
        because = "asked for by Mode" if asked else "the kernel has VXLAN"
        try:
            await self._run(KernelMode(self._options, self._macs, self._kernel), ctx, because)
        except NoKernelVxlan as error:
            if asked:
                raise OSError(str(error)) from error
            if self._options.gbp:
                raise ValueError(f"{NO_GBP}, and the kernel's is not to be had: {error}") from error
            log.warning("vxlan-in-user-space because=%r", str(error))
            await ctx.kernel.want(Wanted(partial=True))  # the devices are not tried again and again
            await self._run(UserMode(self._options, self._macs), ctx, str(error))

    async def _run(self, mode: Mode, ctx: BackendContext, because: str) -> None:
        await mode.start(ctx)
        self._mode, self._because = mode, because
        log.info("vxlan-mode mode=%s because=%r", mode.name, because)

    async def reconcile(self, peers: Sequence[Peer]) -> Report:
        """What the kernel changed for it is in the log, and is remembered, by then."""
        assert self._ctx is not None, "start comes first"
        assert self._mode is not None, "start comes first"
        problems = await self._mode.reconcile(peers)
        if self._options.direct_routing and self._mode.direct_peers:
            links = (self._ctx.underlay.link, *self._mode.owned().links)
            problems += filter_problems(self._filters.look_at(links))
        return Report(problems=problems)

    def _again(self) -> None:
        if self._ctx is not None:
            self._ctx.again()

    def mtu(self) -> int:
        return self._mode.mtu() if self._mode is not None else 0

    def status(self) -> JsonObject:
        mode = self._mode
        return {
            "mode": mode.name if mode is not None else "",
            "mode_because": self._because,
            **(mode.status() if mode is not None else {}),
            "macs": list(self._macs.values()),
            "vni": self._options.vni,
            "port": self._options.udp_port,
            "mtu": self.mtu(),
            "direct_routing": self._options.direct_routing,
            "direct_peers": mode.direct_peers if mode is not None else 0,
        }

    def owned(self) -> Owned:
        return self._mode.owned() if self._mode is not None else Owned()

    async def stop(self, remove: bool) -> None:
        """False: kernel and forwarder go on alone."""
        self._filters.close()
        if remove and self._mode is not None:
            await self._mode.remove()
            self._mode = self._ctx = None


def _families(ctx: BackendContext) -> list[Family]:
    return sorted({network.version for network in ctx.networks})


def _check_families(ctx: BackendContext) -> None:
    link = ctx.underlay.link
    for family in _families(ctx):
        if family not in ctx.underlay.addresses:
            raise ValueError(
                f"{link}: it has no IPv{family} address, and vxlan carries IPv{family} pods over IPv{family} "
                "alone; give it one, or choose another interface with --iface"
            )
