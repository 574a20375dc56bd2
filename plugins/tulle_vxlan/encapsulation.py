"""VXLAN in user space: flannel's wire, so that kernels' VXLAN devices are its peers. Sans-I/O.

There is no learning and no ARP or ND: whose MAC a packet goes to follows from the leases, as a kernel's permanent
neighbours and FDB entries do. IPv4 packets travel over IPv4 and IPv6 over IPv6, each with a MAC of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tulle.contracts.encapsulation import Buffer, Opened, Outgoing, PathId, Paths, PeerId
from tulle.net.prefix import Family
from tulle_vxlan.frames import (
    ETHERTYPE,
    ETHERTYPES,
    HEADER_BYTES,
    PADDED_BYTES,
    TO_US_BYTES,
    fault,
    header,
    unpadded,
    vxlan_header,
)
from tulle_vxlan.peers import told_mac
from tulle_vxlan.unfinished import finished, is_partial

IPV4_BYTES = 4
FAMILIES: Mapping[str, Family] = {"4": 4, "6": 6}
NOT_OURS = (b"-", 0)
"""An ethertype that none is."""


class WireOptions(msgspec.Struct, frozen=True):
    """Of `EncapsulationRef.options`."""

    vni: int
    macs: dict[str, str]
    """Our own, by family ("4", "6")."""
    mtu: int
    """Of the device."""


class WireSettings(msgspec.Struct, frozen=True):
    """Of `DataPeer.settings`."""

    macs: dict[str, str]
    """The peer's, by family."""


class VxlanWire:
    """See the module and `contracts.encapsulation.Encapsulation`. Peers are known by their outer address alone: a
    kernel's source port is a hash of the flow (RFC 7348 section 5)."""

    def __init__(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> None:
        self._paths = paths
        self._vni = self._mtu = 0
        self._macs: dict[Family, bytes] = {}
        self._peers: dict[PeerId, tuple[dict[Family, PathId], dict[Family, bytes]]] = {}
        """Paths and MACs."""
        self._sealed: dict[PeerId, dict[Family, tuple[PathId, bytes]]] = {}
        """Path and header."""
        self._ours: dict[bytes, tuple[bytes, Family]] = {}
        """What datagrams for us begin with, up to our MAC -> their ethertype. What fits is looked at no further."""
        self._counts: Counter[str] = Counter()

    def configure(self, options: Mapping[str, Any], now: float) -> None:
        """Raises ValueError where they are not `WireOptions` with MACs."""
        given = msgspec.convert(options, WireOptions)
        macs = _macs(given.macs)
        if not macs:
            raise ValueError("macs: this node has none")
        start = vxlan_header(given.vni)
        self._vni, self._macs, self._mtu = given.vni, macs, given.mtu
        self._ours = {start + mac: (ETHERTYPES[family], family) for family, mac in macs.items()}
        for peer in self._peers:
            self._make_headers(peer)

    def set_peer(
        self, peer: PeerId, paths: Sequence[PathId], settings: Mapping[str, Any], now: float
    ) -> None:
        """Raises ValueError where they are not `WireSettings` with MACs."""
        macs = _macs(msgspec.convert(settings, WireSettings).macs)
        by_family: dict[Family, PathId] = {}
        for path in paths:
            family: Family = 4 if len(self._paths.remote(path).address) == IPV4_BYTES else 6
            by_family.setdefault(family, path)
        self._peers[peer] = (by_family, macs)
        self._make_headers(peer)

    def remove_peer(self, peer: PeerId, now: float) -> None:
        self._peers.pop(peer, None)
        self._sealed.pop(peer, None)

    def _make_headers(self, peer: PeerId) -> None:
        paths, macs = self._peers[peer]
        self._sealed[peer] = {
            family: (paths[family], header(self._vni, mac, self._macs[family], family))
            for family, mac in macs.items()
            if family in paths and family in self._macs
        }

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        ways = self._sealed.get(peer)
        if not ways:
            self._counts["drop-no-path"] += len(packets)
            return ()
        found: dict[PathId, list[tuple[Buffer, Buffer]]] = {}
        for packet in packets:
            way = ways.get(packet[0] >> 4) if packet else None  # type: ignore[call-overload]
            if way is None:
                self._counts["drop-no-path"] += 1
            else:
                found.setdefault(way[0], []).append((way[1], packet))
        return tuple(found.items())

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        inner: list[Buffer] = []
        for datagram in datagrams:
            kind, family = self._ours.get(bytes(datagram[:TO_US_BYTES]), NOT_OURS)
            if (
                datagram[ETHERTYPE] != kind
                or len(datagram) <= HEADER_BYTES
                or datagram[HEADER_BYTES] >> 4 != family
            ):
                self._counts[f"drop-{fault(datagram, self._vni, self._macs)}"] += 1
                continue
            packet = datagram[HEADER_BYTES:]
            if len(datagram) == PADDED_BYTES:
                packet = unpadded(packet)
            if len(packet) > self._mtu or is_partial(packet):
                inner += self._finished(packet)
            else:
                inner.append(packet)
        return Opened(((self._paths.peers_at(path), inner),) if inner else ())

    def _finished(self, packet: Buffer) -> Sequence[Buffer]:
        whole = finished(packet, self._mtu)
        if not whole:
            self._counts["drop-too-long"] += 1
        elif whole[0] is not packet:
            self._counts["finished"] += 1
        return whole

    def control(self, path: PathId, datagram: Buffer, now: float) -> Sequence[Outgoing]:
        return ()

    def deadline(self, now: float) -> float | None:
        return None

    def tick(self, now: float) -> Sequence[Outgoing]:
        return ()

    def send_failed(self, path: PathId, error: int, now: float) -> None:
        """The engine counts them; nothing here can do better."""

    def export_state(self) -> bytes:
        return b""

    def import_state(self, state: bytes) -> None:
        """There are no sessions."""

    def counters(self) -> Mapping[str, int]:
        return dict(self._counts)

    def report(self, now: float) -> Mapping[PeerId, Mapping[str, Any]]:
        return {}


def _macs(given: Mapping[str, str]) -> dict[Family, bytes]:
    """Raises ValueError for what is no family, or no MAC of one device."""
    found: dict[Family, bytes] = {}
    for family, text in given.items():
        mac = told_mac({"VtepMAC": text})
        if family not in FAMILIES or mac is None:
            raise ValueError(f"macs: {family!r}: {text!r} is no MAC of one device")
        found[FAMILIES[family]] = bytes.fromhex(mac.replace(":", ""))
    return found
