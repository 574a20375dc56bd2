"""A WireGuard device that stands alone: no store and no cluster, its settings are what was set through the socket.

Without a private key it has one that nobody knows, and no peers: it drops everything, as WireGuard does. Where a peer
is, is one thing: what was set last, or what the peer has proved since. The latter is asked for now and then and told to
the forwarder as if it had been set, so that a new forwarder knows it, and what is set after it is always news.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tulle.contracts.backend import DataPeer
from tulle.contracts.engine import Local
from tulle_wireguard.carrier import Carrier, ForwarderState
from tulle_wireguard.constants import KEY_BYTES
from tulle_wireguard.interface import Interface, PeerSettings
from tulle_wireguard.keytext import key_text
from tulle_wireguard.setpeers import to_data_peer
from tulle_wireguard.uapi import NO_KEY, DeviceView, Set
from tulle_wireguard.uapi_socket import CannotChange
from tulle_wireguard.views import Told, Viewer, heard_at

FOLLOW_S = 5.0
"""How often the forwarder is asked where the peers are."""


class Alone:
    """See the module and `uapi_socket.Configurable`."""

    def __init__(self, carrier: Carrier, mtu: int, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._carrier = carrier
        self._mtu = mtu
        self._nobodys_key = random_bytes(KEY_BYTES)
        self._interface = Interface()
        self._viewer = Viewer()
        self._told: Mapping[bytes, Told] = {}
        """As the forwarder said last."""
        self._made: dict[bytes, tuple[PeerSettings, DataPeer]] = {}
        """What the forwarder was told of them."""
        self._turn = asyncio.Lock()
        """Of who changes the interface."""

    async def start(self) -> None:
        """Returns when a peer that is set would be served."""
        await self._push(self._interface)

    async def view(self) -> DeviceView:
        await self._ask()
        return self._viewer.device(self._interface, self._carrier.port, self._told, time.time_ns())

    async def change(self, wanted: Set) -> None:
        async with self._turn:
            if any(one.endpoint is not None for one in wanted.peers):
                await self._find_peers()
            before = self._interface
            after = before.altered(wanted)
            try:
                if wanted.listen_port is not None or after.fwmark != before.fwmark:
                    self._carrier.listen(self._port_after(wanted), after.fwmark)
            except OSError as error:
                raise CannotChange(error.errno or errno.EIO, error.strerror or str(error)) from error
            self._interface = after
            await self._push(after)

    def _port_after(self, wanted: Set) -> int:
        """0 asks for another one, also where the kernel has chosen before."""
        return self._carrier.port if wanted.listen_port is None else wanted.listen_port

    async def follow(self) -> None:
        """For ever: where the peers are."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            async with self._turn:
                await self._find_peers()

    async def set_mtu(self, mtu: int) -> None:
        """The device's has changed."""
        if mtu != self._mtu:
            self._mtu = mtu
            await self._push(self._interface)

    # --- the forwarder ----------------------------------------------------------------------------------------------

    async def _ask(self) -> bool:
        """False: it does not answer; what it said before may be old."""
        stats = await self._carrier.stats()
        if stats is not None:
            self._told = {bytes.fromhex(key): told for key, told in stats.peers.items()}
        return stats is not None

    async def _find_peers(self) -> None:
        if not await self._ask():
            return
        peers = dict(self._interface.peers)
        for public, peer in peers.items():
            heard = heard_at(self._told.get(public, {}))
            if heard is not None and heard != peer.endpoint:
                peers[public] = msgspec.structs.replace(peer, endpoint=heard)
        if peers != self._interface.peers:
            self._interface = msgspec.structs.replace(self._interface, peers=peers)
            await self._push(self._interface)

    async def _push(self, interface: Interface) -> None:
        key = interface.private_key
        has_key = key != NO_KEY
        options: dict[str, Any] = {
            "PrivateKey": key_text(key if has_key else self._nobodys_key),
            "Mtu": self._mtu,
        }
        peers = self._data_peers(interface) if has_key else []
        await self._carrier.push(
            ForwarderState(
                local=Local(mtu=self._mtu, source_check="source"),
                options=options,
                peers={one.key: one for one in peers},
            )
        )

    def _data_peers(self, interface: Interface) -> list[DataPeer]:
        """Made anew only of those that have changed: each of many requests costs what it changes."""
        before, self._made = self._made, {}
        for public, peer in interface.peers.items():
            made = before.get(public)
            self._made[public] = made if made is not None and made[0] is peer else (peer, to_data_peer(peer))
        return [made for _, made in self._made.values()]
