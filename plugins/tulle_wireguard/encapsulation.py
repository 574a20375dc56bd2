"""WireGuard as an encapsulation of the forwarder: devices (see `keyring`) whose endpoints are the engine's paths.

Which packet is for which peer, and what a peer may send, is the engine's business (longest prefix match, as allowed IPs
have it): the devices have none of them here.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, TypeVar

import msgspec

from tulle.contracts.encapsulation import (
    Buffer,
    Delivery,
    Opened,
    Outgoing,
    PathId,
    Paths,
    PeerId,
    Remote,
)
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.keyring import Keyring, Wanted
from tulle_wireguard.keytext import key_bytes
from tulle_wireguard.messages import TRANSPORT, kind
from tulle_wireguard.outputs import Outputs
from tulle_wireguard.peer import Peer
from tulle_wireguard.place import Place

NOT_OUR_ADDRESS = {errno.EMSGSIZE}
"""What a send fails with wherever it leaves from: no reason to give up the address that we answered from."""

T = TypeVar("T")


class DeviceOptions(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    """The node's."""

    private_key: str
    """32 bytes in base64, as `wg genkey` writes them."""
    previous_private_key: str = ""
    """Taken beside the other while that is new; "": none."""
    mtu: int = 1420
    """The TUN's."""


class PeerOptions(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    """A peer's."""

    public_key: str
    former_public_key: str = ""
    """That it had before, while its lease names it; "": none."""
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
        self._paths = paths
        self._keyring: Keyring[PeerId] = Keyring(random_bytes, unix_ns)

    # --- what it is told ----------------------------------------------------------------------------------------

    def configure(self, options: Mapping[str, Any], now: float) -> None:
        wanted = _converted(options, DeviceOptions)
        private = _key(wanted.private_key, "PrivateKey")
        previous = _optional_key(wanted.previous_private_key, "PreviousPrivateKey")
        self._keyring.configure(private, previous, wanted.mtu, now)

    def set_peer(
        self, peer: PeerId, paths: Sequence[PathId], settings: Mapping[str, Any], now: float
    ) -> None:
        wanted = _converted(settings, PeerOptions)
        told = Wanted(
            _key(wanted.public_key, "PublicKey"),
            _optional_key(wanted.former_public_key, "FormerPublicKey"),
            _optional_key(wanted.preshared_key, "PresharedKey") or None,
            [_endpoint(self._paths.remote(path)) for path in paths],
            wanted.persistent_keepalive,
        )
        self._keyring.set_peer(peer, told, now)

    def remove_peer(self, peer: PeerId, now: float) -> None:
        self._keyring.remove_peer(peer)

    def send_failed(self, path: PathId, error: int, now: float) -> None:
        """Our own address may be gone; the next datagram leaves from the one that the kernel chooses."""
        if error in NOT_OUR_ADDRESS:
            return
        try:
            remote = self._paths.remote(path)
        except KeyError:
            return
        self._keyring.send_failed(_endpoint(remote))

    # --- packets ------------------------------------------------------------------------------------------------

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        return self._outgoing(self._keyring.send(peer, packets, now)) if packets else ()

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        transport: list[Buffer] = []
        others: list[Buffer] = []
        for datagram in datagrams:
            (transport if kind(datagram) == TRANSPORT else others).append(datagram)
        if not transport:
            return Opened((), others)
        source = self._paths.remote(path)
        outputs = self._keyring.received(transport, _endpoint(source), now, source.ds)
        return Opened(self._deliveries(outputs), others, self._outgoing(outputs))

    def control(self, path: PathId, datagram: Buffer, now: float) -> Sequence[Outgoing]:
        source = self._paths.remote(path)
        return self._outgoing(self._keyring.received((datagram,), _endpoint(source), now, source.ds))

    # --- time ---------------------------------------------------------------------------------------------------

    def deadline(self, now: float) -> float | None:
        return self._keyring.deadline(now)

    def tick(self, now: float) -> Sequence[Outgoing]:
        return self._outgoing(self._keyring.tick(now))

    # --- questions ----------------------------------------------------------------------------------------------

    def export_state(self) -> bytes:
        return self._keyring.export_state()

    def import_state(self, state: bytes) -> None:
        if state:
            self._keyring.import_state(state)

    def counters(self) -> Mapping[str, int]:
        return dict(self._keyring.counters())

    def report(self, now: float) -> Mapping[PeerId, Mapping[str, Any]]:
        """By names that are stable: endpoint ("192.0.2.1:51820"), last-handshake (seconds ago), received-bytes and
        sent-bytes (of UDP payloads, as `wg show` counts them). What is not known is left out."""
        return {peer: _told_of(legs, now) for peer, legs in self._keyring.peers()}

    # --- between the two ----------------------------------------------------------------------------------------

    def _deliveries(self, outputs: Outputs) -> list[Delivery]:
        holder = self._keyring.holder
        return [
            (frozenset({peer}), one.packets)
            for one in outputs.received
            if (peer := holder(one.peer.public)) is not None
        ]

    def _outgoing(self, outputs: Outputs) -> list[Outgoing]:
        path_to = self._paths.path_to
        return [(path_to(Remote(*send.endpoint, send.ds)), send.datagrams) for send in outputs.sends]


def _endpoint(remote: Remote) -> Endpoint:
    return Endpoint(remote.address, remote.port, remote.local)


def _told_of(legs: Sequence[Peer], now: float) -> dict[str, Any]:
    told: dict[str, Any] = {
        "received-bytes": sum(peer.received_bytes for peer in legs),
        "sent-bytes": sum(peer.sent_bytes for peer in legs),
    }
    heard = max(legs, key=lambda peer: peer.heard_at)  # the newest, where nothing was heard
    if heard.where.current is not None:
        address, port, _ = heard.where.current
        told["endpoint"] = str(Place(ip_address(address), port))
    handshakes = [peer.last_handshake for peer in legs if peer.last_handshake is not None]
    if handshakes:
        told["last-handshake"] = max(0.0, now - max(handshakes))
    return told


def _optional_key(text: str, name: str) -> bytes:
    return _key(text, name) if text else b""


def _key(text: str, name: str) -> bytes:
    try:
        return key_bytes(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; take one that `wg` makes") from None


def _converted(given: Mapping[str, Any], kind_: type[T]) -> T:
    try:
        return msgspec.convert(dict(given), kind_)
    except msgspec.ValidationError as error:
        raise ValueError(f"WireGuard: {error}") from error
