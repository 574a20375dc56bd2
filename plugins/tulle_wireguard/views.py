"""Settings of an interface, and what the forwarder counts and knows of its peers, as what `get` shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tulle_wireguard.interface import Interface, PeerSettings
from tulle_wireguard.place import Place, parse_place
from tulle_wireguard.uapi import DeviceView, PeerView

STEADY_NS = 500_000_000
"""Two moments of a handshake that are told as "so long ago" and differ by less are one."""

Told = Mapping[str, Any]
"""What `Stats.peers` says of a peer: of the engine's counters and the encapsulation's report."""


def heard_at(told: Told) -> Place | None:
    """Where the peer is, as the forwarder knows it; None where it does not."""
    try:
        return parse_place(str(told.get("endpoint", "")))
    except ValueError:
        return None


class Viewer:
    """Makes views. Remembers the handshakes' moments, so that one handshake is always shown at one moment."""

    def __init__(self) -> None:
        self._handshakes: dict[bytes, int] = {}

    def device(self, interface: Interface, port: int, told: Mapping[bytes, Told], unix_ns: int) -> DeviceView:
        """`told` by public key. `port`: the one in use. `unix_ns`: the wall clock."""
        for public in self._handshakes.keys() - interface.peers.keys():
            del self._handshakes[public]
        return DeviceView(
            private_key=interface.private_key,
            listen_port=port,
            fwmark=interface.fwmark,
            peers=[
                self._peer(one, told.get(one.public_key, {}), unix_ns) for one in interface.peers.values()
            ],
        )

    def _peer(self, peer: PeerSettings, told: Told, unix_ns: int) -> PeerView:
        return PeerView(
            public_key=peer.public_key,
            preshared_key=peer.preshared_key,
            endpoint=heard_at(told) or peer.endpoint,
            keepalive_s=peer.keepalive_s,
            allowed_ips=tuple(peer.in_order()),
            last_handshake_ns=self._handshake(peer.public_key, told.get("last-handshake"), unix_ns),
            rx_bytes=int(told.get("received-bytes", 0)),
            tx_bytes=int(told.get("sent-bytes", 0)),
        )

    def _handshake(self, public: bytes, seconds_ago: float | None, unix_ns: int) -> int:
        if seconds_ago is None:
            return 0
        moment = max(1, unix_ns - int(seconds_ago * 1e9))
        known = self._handshakes.get(public)
        if known is not None and abs(known - moment) < STEADY_NS:
            return known
        self._handshakes[public] = moment
        return moment
