"""WireGuard as an encapsulation of the forwarder: a device whose endpoints are the engine's paths.

Not offered yet: see README.md for what the contract lacks. What `open` has to send waits for the next `tick`, and paths
stand for addresses in cookies and limits.
"""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from tulle.contracts.encapsulation import Buffer, Delivery, Opened, Outgoing, PathId, Paths, PeerId
from tulle_wireguard.constants import KEY_BYTES
from tulle_wireguard.device import Device
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.messages import TRANSPORT, kind
from tulle_wireguard.outputs import Outputs

PATH_BYTES = 8

T = TypeVar("T")


class Options(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    """The node's."""

    private_key: str
    """32 bytes in base64, as `wg genkey` writes them."""
    mtu: int = 1420
    """The TUN's."""


class PeerSettings(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    """A peer's."""

    public_key: str
    preshared_key: str = ""
    persistent_keepalive: int = 0
    """Seconds; 0: none."""


class WireGuard:
    """See the module and `contracts.encapsulation.Encapsulation`."""

    def __init__(
        self,
        paths: Paths,
        random_bytes: Callable[[int], bytes],
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._random_bytes = random_bytes
        self._unix_ns = unix_ns
        self._device: Device | None = None
        self._private = b""
        self._peer_ids: dict[bytes, PeerId] = {}
        self._publics: dict[PeerId, bytes] = {}
        self._waiting: list[Outgoing] = []
        """What `open` had to send."""

    def configure(self, options: Mapping[str, Any], now: float) -> None:
        wanted = _converted(options, Options)
        private = _key(wanted.private_key, "PrivateKey")
        if self._device is None:
            self._device = Device(
                private, self._random_bytes, self._unix_ns, now, mtu=wanted.mtu, checks_source=False
            )
        elif private != self._private:
            self._device.set_private(private)
        self._device.mtu = wanted.mtu
        self._private = private

    def set_peer(
        self, peer: PeerId, paths: Sequence[PathId], settings: Mapping[str, Any], now: float
    ) -> None:
        wanted = _converted(settings, PeerSettings)
        public = _key(wanted.public_key, "PublicKey")
        psk = _key(wanted.preshared_key, "PresharedKey") if wanted.preshared_key else None
        if self._peer_ids.get(public, peer) != peer:
            raise ValueError(f"two peers have the public key {wanted.public_key}: each node needs its own")
        self._the_device().add_peer(
            public,
            now,
            psk=psk,
            endpoints=[_endpoint(path) for path in paths],
            persistent_s=wanted.persistent_keepalive,
        )
        before = self._publics.get(peer, public)
        if before != public:
            self.remove_peer(peer, now)
        self._publics[peer], self._peer_ids[public] = public, peer

    def remove_peer(self, peer: PeerId, now: float) -> None:
        public = self._publics.pop(peer, None)
        if public is not None:
            del self._peer_ids[public]
            self._the_device().remove_peer(public)

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        public = self._publics.get(peer)
        if public is None or not packets:
            return ()
        device = self._the_device()
        return _outgoing(device.send_to(device.peers[public], packets, now))

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        if self._device is None:
            return Opened(())
        transport: list[Buffer] = []
        others: list[Buffer] = []
        for datagram in datagrams:
            (transport if kind(datagram) == TRANSPORT else others).append(datagram)
        outputs = self._device.datagrams_received(transport, _endpoint(path), now)
        self._waiting += _outgoing(outputs)
        return Opened(self._deliveries(outputs), others)

    def control(self, path: PathId, datagram: Buffer, now: float) -> Sequence[Outgoing]:
        if self._device is None:
            return ()
        return _outgoing(self._device.datagram_received(datagram, _endpoint(path), now))

    def tick(self, now: float) -> tuple[Sequence[Outgoing], float | None]:
        if self._device is None:
            return (), None
        waiting, self._waiting = self._waiting, []
        return [*waiting, *_outgoing(self._device.tick(now))], self._device.deadline(now)

    def export_state(self) -> bytes:
        return b"" if self._device is None else self._device.export_state()

    def import_state(self, state: bytes) -> None:
        if state:
            # Paths have other numbers here; a peer that moved is found where it is heard from next.
            self._the_device().import_state(state, with_places=False)

    def counters(self) -> Mapping[str, int]:
        return {} if self._device is None else dict(self._device.counters)

    def _the_device(self) -> Device:
        if self._device is None:
            raise ValueError("WireGuard has no private key yet: configure it before its first peer")
        return self._device

    def _deliveries(self, outputs: Outputs) -> list[Delivery]:
        return [
            (frozenset({self._peer_ids[one.peer.public]}), one.packets)
            for one in outputs.received
            if one.peer.public in self._peer_ids
        ]


def _outgoing(outputs: Outputs) -> list[Outgoing]:
    return [(_path(send.endpoint), send.datagrams) for send in outputs.sends]


def _endpoint(path: PathId) -> Endpoint:
    return Endpoint(path.to_bytes(PATH_BYTES, "big"), 0)


def _path(endpoint: Endpoint) -> PathId:
    return PathId(int.from_bytes(endpoint.address, "big"))


def _key(text: str, name: str) -> bytes:
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"{name} is not {KEY_BYTES} bytes in base64: take one that `wg genkey` makes")
    return key


def _converted(given: Mapping[str, Any], kind_: type[T]) -> T:
    try:
        return msgspec.convert(dict(given), kind_)
    except msgspec.ValidationError as error:
        raise ValueError(f"WireGuard: {error}") from error
