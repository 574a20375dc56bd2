"""A peer as it is set on the `wg` socket, and the same peer as a data plane is told of it. Pure."""

from __future__ import annotations

from ipaddress import ip_address

from tulle.contracts.backend import DataPeer, Endpoint
from tulle.net.prefix import parse_prefix
from tulle_wireguard.interface import PeerSettings
from tulle_wireguard.keytext import key_bytes, key_text
from tulle_wireguard.peers import settings
from tulle_wireguard.place import Place
from tulle_wireguard.uapi import NO_KEY


def to_data_peer(peer: PeerSettings) -> DataPeer:
    """For the forwarder. Its key is the public key in hex."""
    psk = "" if peer.preshared_key == NO_KEY else key_text(peer.preshared_key)
    place = peer.endpoint
    return DataPeer(
        key=peer.public_key.hex(),
        prefixes=tuple(str(one) for one in peer.in_order()),
        endpoints=() if place is None else (Endpoint(str(place.address), place.port),),
        settings=settings(key_text(peer.public_key), psk, peer.keepalive_s),
    )


def from_data_peer(peer: DataPeer) -> PeerSettings:
    """The other way: of a peer as a backend states it, with the first of its endpoints. Raises ValueError where its
    settings are not WireGuard's."""
    psk = peer.settings.get("PresharedKey")
    return PeerSettings(
        public_key=key_bytes(peer.settings.get("PublicKey")),
        preshared_key=key_bytes(psk) if psk else NO_KEY,
        endpoint=next((Place(ip_address(one.address), one.port) for one in peer.endpoints), None),
        keepalive_s=int(peer.settings.get("PersistentKeepalive", 0)),
        allowed_ips=frozenset(parse_prefix(one) for one in peer.prefixes),
    )
