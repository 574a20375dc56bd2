"""The wireguard backend: one device with a key and a port, or one for each family of pods (`tunnels`), whose packets a
forwarder seals; a WireGuard peer for each lease (`peers`) and for each record of the store (`stock`)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from ipaddress import ip_network
from typing import Any

from tulle.contracts.backend import (
    Advertisement,
    BackendContext,
    DataPeer,
    DataPlane,
    Family,
    JsonObject,
    Owned,
    Peer,
    Problem,
    Report,
)
from tulle.net.prefix import Prefix
from tulle_wireguard.keyfile import Keys, load_keys, new_private, save_keys
from tulle_wireguard.keytext import key_text
from tulle_wireguard.leasedata import TYPE, lease_data
from tulle_wireguard.nodesockets import NodeSockets
from tulle_wireguard.options import WireguardOptions
from tulle_wireguard.peers import Common, data_peer, with_prefixes, without_shared_keys
from tulle_wireguard.setup import Setup
from tulle_wireguard.stock import FOLDER, Attached, attach, stock_data_peer
from tulle_wireguard.tunnels import Tunnel, mtu_of, tunnels

log = logging.getLogger("tulle.wireguard")

STORE_S = 2.0
"""For the store to say which stock peers there are. It has just given us our lease."""
RETRY_S = 2.0
"""Until a key that has had its time is tried to be dropped again."""


class WireguardBackend:
    """See the module and `contracts.backend.Backend`."""

    def __init__(
        self,
        options: WireguardOptions,
        *,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self._random_bytes = random_bytes
        self._unix_s = unix_s
        self._ctx: BackendContext | None = None
        self._tunnels: tuple[Tunnel, ...] = ()
        self._keys: dict[str, Keys] = {}
        """By device."""
        self._setups: dict[str, Setup] = {}
        """By device; what the data planes were told last."""
        self._records: Mapping[str, bytes] = {}
        """Of stock peers, by name."""
        self._records_known = asyncio.Event()
        self._attached = Attached()
        self._known: dict[tuple[str, str], tuple[Peer, DataPeer | Problem | None]] = {}
        """By device and lease key: one change among thousands of peers costs what changed."""
        self._sockets = NodeSockets(self._again)
        """For `wg`."""
        self._tasks: list[asyncio.Task[None]] = []
        self._rotation = asyncio.Lock()
        self._key_changed = asyncio.Event()

    def overhead_bytes(self, outer: Family) -> int:
        return self.options.overhead_bytes(outer)

    async def advertise(self, ctx: BackendContext) -> Advertisement:
        """Makes or reads the keys. Raises ValueError where there can be none, or no tunnel."""
        self._plan(ctx)
        return self._advertisement()

    def _plan(self, ctx: BackendContext) -> None:
        pods = [network.version for network in ctx.networks]
        self._tunnels = tunnels(self.options, pods, list(ctx.underlay.addresses))
        for tunnel in self._tunnels:
            if tunnel.device not in self._keys:
                self._keys[tunnel.device] = load_keys(ctx.state_dir / tunnel.key_file, self._random_bytes)

    def _advertisement(self) -> Advertisement:
        data: dict[Family, JsonObject] = {}
        for tunnel in self._tunnels:
            keys = self._keys[tunnel.device]
            told = lease_data(keys.public, tunnel.port, keys.former(self._unix_s()))
            data |= dict.fromkeys(tunnel.inner, told)
        return Advertisement(TYPE, data.get(4, {}), data.get(6, {}))

    async def start(self, ctx: BackendContext) -> None:
        """Raises ValueError where the underlay cannot carry it, OSError where a port is in use."""
        self._plan(ctx)
        self._ctx = ctx
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._follow_stock_peers(ctx), name="wireguard-stock-peers"),
                asyncio.create_task(self._drop_old_keys(ctx), name="wireguard-old-keys"),
            ]
            with suppress(TimeoutError):  # else what an earlier tulled left of them would be taken away first
                async with asyncio.timeout(STORE_S):
                    await self._records_known.wait()
            self._attached = self._attach(ctx, ())
        for tunnel in self._tunnels:
            await self._configure(ctx, tunnel, again=True)

    # --- what the data planes are told ----------------------------------------------------------------------

    async def _configure(self, ctx: BackendContext, tunnel: Tunnel, *, again: bool = False) -> None:
        """Nothing happens where that is what the data plane was told last, unless `again`."""
        setup = self._setup(ctx, tunnel)
        if not again and self._setups.get(tunnel.device) == setup:
            return
        await self.plane(tunnel).configure(
            setup.device, setup.listen, setup.encapsulation, source_check=setup.source_check
        )
        self._setups[tunnel.device] = setup

    def _setup(self, ctx: BackendContext, tunnel: Tunnel) -> Setup:
        mtu = mtu_of(tunnel, self.options, ctx.underlay.link, ctx.underlay.mtu)
        own = [one for one in ctx.prefixes if one.version in tunnel.inner]
        clusters = tuple(one for one in ctx.networks if one.version in tunnel.inner)
        elsewhere = [
            one
            for one in self._attached.prefixes()
            if one.version in tunnel.inner and not _inside(one, clusters)
        ]
        keys = self._keys[tunnel.device]
        return Setup.of(
            tunnel,
            mtu=mtu,
            addresses=[ip_network((one.network_address, one.max_prefixlen)) for one in own],
            routes=(*clusters, *sorted(elsewhere, key=str)),
            private=keys.private,
            previous=keys.accepted(self._unix_s()),
            forwards=self._attached.forwards,
            mark=self._sockets.fwmark(tunnel.device),
        )

    def plane(self, tunnel: Tunnel) -> DataPlane:
        """Its data plane, from `start` on."""
        assert self._ctx is not None, "start comes first"
        return self._ctx.second_dataplane(tunnel.plane) if tunnel.plane else self._ctx.dataplane

    async def reconcile(self, peers: Sequence[Peer]) -> Report:
        ctx = self._ctx
        assert ctx is not None, "start comes first"
        self._attached = self._attach(ctx, peers)
        problems = list(self._attached.problems)
        await self._sockets.keep({tunnel.device: self._traffic(tunnel) for tunnel in self._tunnels})
        for tunnel in self._tunnels:
            found, wrong = self._peers_of(tunnel, peers)
            self._sockets.state(tunnel.device, self._keys[tunnel.device].private, tunnel.port, found)
            await self._configure(ctx, tunnel)
            await self.plane(tunnel).set_peers([*found, *self._sockets.by_hand(tunnel.device)])
            problems += [one for one in wrong if all(one.subject != said.subject for said in problems)]
        keys = {peer.key for peer in peers}
        self._known = {which: one for which, one in self._known.items() if which[1] in keys}
        return Report(problems=tuple(problems))

    def _traffic(self, tunnel: Tunnel) -> Callable[[], Mapping[str, Mapping[str, Any]]]:
        return lambda: self.plane(tunnel).status().get("peers", {})

    def _again(self) -> None:
        if self._ctx is not None:
            self._ctx.again()

    def _attach(self, ctx: BackendContext, peers: Sequence[Peer]) -> Attached:
        if not self._records:
            return Attached()
        return attach(
            self._records,
            node=ctx.node,
            peers=peers,
            own=ctx.prefixes,
            own_keys=[key_text(one.public) for one in self._keys.values()],
            underlay=list(ctx.underlay.addresses.values()),
        )

    def _peers_of(self, tunnel: Tunnel, peers: Sequence[Peer]) -> tuple[list[DataPeer], list[Problem]]:
        common = Common(self.options.psk, self.options.persistent_keepalive_interval)
        found: list[tuple[Peer, DataPeer]] = []
        problems: list[Problem] = []
        for peer in peers:
            which = tunnel.device, peer.key
            before = self._known.get(which)
            if before is None or (before[0] is not peer and before[0] != peer):
                before = self._known[which] = (peer, data_peer(peer, tunnel, common))
            if isinstance(before[1], Problem):
                problems.append(before[1])
            elif before[1] is not None:
                more = [one for one in self._attached.behind.get(peer.key, ()) if one.version in tunnel.inner]
                found.append((peer, with_prefixes(before[1], more)))
        ours = [self._keys[one.device] for one in self._tunnels]
        own = {key_text(one.public): "this node" for one in ours}
        own |= {key_text(one.former(self._unix_s())): "this node" for one in ours}
        kept, shared = without_shared_keys(found, own)
        taken = {str(one.settings["PublicKey"]) for one in kept}
        for stock in self._attached.here:
            one = stock_data_peer(stock, tunnel)
            if one is not None and stock.public in taken:
                message = "it has the key of a node; give each its own (tulle wireguard add-peer)"
                problems.append(Problem("stock-peer-key-shared", stock.name, message))
            elif one is not None:
                kept.append(one)
        return kept, [*problems, *shared]

    # --- the store's records of stock peers -------------------------------------------------------------------

    async def _follow_stock_peers(self, ctx: BackendContext) -> None:
        async with aclosing(ctx.follow(FOLDER)) as folders:
            async for records in folders:
                changed, self._records = records != self._records, dict(records)
                self._records_known.set()
                if changed:
                    ctx.again()

    # --- keys -------------------------------------------------------------------------------------------------

    async def rotate(self, grace_s: float) -> dict[str, str]:
        """New keys, in the files, in the forwarder and in the lease. The old ones are taken for `grace_s` more seconds;
        0: not at all. Returns the public keys by device. Raises ValueError where a file cannot be written."""
        ctx = self._ctx
        if ctx is None:
            raise ValueError("the backend has not started yet: see tulle status, and try again")
        async with self._rotation:
            until = self._unix_s() + grace_s
            try:
                for tunnel in self._tunnels:
                    self._renew(ctx, tunnel, until if grace_s > 0 else 0.0)
            finally:  # a key that is on the disk is ours, also where that of the next device cannot be written
                for tunnel in self._tunnels:
                    await self._configure(ctx, tunnel)
                await ctx.publish(self._advertisement())
                ctx.again()  # `wg` is to show the new key
            log.info("key-rotated grace=%.0f public=%s", grace_s, ",".join(self.public_keys().values()))
            self._key_changed.set()
            return self.public_keys()

    def _renew(self, ctx: BackendContext, tunnel: Tunnel, until: float) -> None:
        before = self._keys[tunnel.device]
        fresh = Keys(new_private(self._random_bytes))
        if until:
            fresh = Keys(fresh.private, before.private, until)
        save_keys(ctx.state_dir / tunnel.key_file, fresh)
        self._keys[tunnel.device] = fresh

    def public_keys(self) -> dict[str, str]:
        """By device."""
        return {tunnel.device: key_text(self._keys[tunnel.device].public) for tunnel in self._tunnels}

    async def _drop_old_keys(self, ctx: BackendContext) -> None:
        """Each when its time is over, from the forwarder and from the disk."""
        while True:
            until = min((one.until for one in self._keys.values() if one.previous), default=None)
            self._key_changed.clear()
            with suppress(TimeoutError):
                wait_s = None if until is None else max(0.0, until - self._unix_s())
                async with asyncio.timeout(wait_s):
                    await self._key_changed.wait()
            try:
                await self._drop_those_due(ctx)
            except (OSError, TimeoutError, ValueError) as error:
                log.warning("old-key-not-dropped %s (tried again every %.0f s)", error, RETRY_S)
                await asyncio.sleep(RETRY_S)

    async def _drop_those_due(self, ctx: BackendContext) -> None:
        async with self._rotation:
            for tunnel in self._tunnels:
                keys = self._keys[tunnel.device]
                if keys.previous and not keys.accepted(self._unix_s()):
                    await self._configure(ctx, tunnel)
                    save_keys(ctx.state_dir / tunnel.key_file, Keys(keys.private))
                    self._keys[tunnel.device] = Keys(keys.private)
                    await ctx.publish(self._advertisement())
                    log.info("old-key-dropped device=%s", tunnel.device)

    # --- what it says of itself ---------------------------------------------------------------------------------

    def mtu(self) -> int:
        """The smallest of the devices': a pod of two families has one interface."""
        return min((one.device.mtu for one in self._setups.values()), default=0)

    def status(self) -> JsonObject:
        now = self._unix_s()
        old = [one.until - now for one in self._keys.values() if one.accepted(now)]
        return {
            "device": self._tunnels[0].device if self._tunnels else "",
            "devices": [tunnel.device for tunnel in self._tunnels],
            "mode": self.options.mode,
            "ports": [tunnel.port for tunnel in self._tunnels],
            "public_keys": list(self.public_keys().values()),
            "old_key_for_s": round(max(old)) if old else 0,
            "psk": bool(self.options.psk),
            "persistent_keepalive_s": self.options.persistent_keepalive_interval,
            "stock_peers": [one.name for one in self._attached.here],
            "mtu": self.mtu(),
        }

    def owned(self) -> Owned:
        devices = [one.device for one in self._setups.values()]
        return Owned(
            links=tuple(one.name for one in devices),
            routes=tuple(route for one in devices for route in one.routes),
        )

    async def stop(self, remove: bool) -> None:
        """Core keeps or removes devices and forwarders; the key stays, it is who this node is."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._sockets.close()


def _inside(prefix: Prefix, networks: Sequence[Prefix]) -> bool:
    return any(
        prefix.version == one.version
        and one.network_address <= prefix.network_address  # type: ignore[operator]
        and prefix.broadcast_address <= one.broadcast_address  # type: ignore[operator]
        for one in networks
    )
