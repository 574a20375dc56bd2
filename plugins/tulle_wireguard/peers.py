"""What a peer's lease means for one tunnel: a WireGuard peer, or the reason why there is none. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tulle.contracts.backend import DataPeer, Endpoint, JsonObject, Peer, Problem
from tulle.net.prefix import Prefix
from tulle_wireguard.leasedata import TYPE, Unreadable, parse_lease_data
from tulle_wireguard.tunnels import Tunnel


class Common(msgspec.Struct, frozen=True):
    """What all peers of a tunnel have alike."""

    psk: str = ""
    keepalive_s: int = 0


def settings(public: str, psk: str, keepalive_s: int, former: str = "") -> JsonObject:
    """As the encapsulation reads them (`encapsulation.PeerOptions`)."""
    found: dict[str, Any] = {"PublicKey": public, "PersistentKeepalive": keepalive_s}
    if psk:
        found["PresharedKey"] = psk
    if former:
        found["FormerPublicKey"] = former
    return found


def data_peer(peer: Peer, tunnel: Tunnel, common: Common) -> DataPeer | Problem | None:
    """None: it has no pods whose packets this tunnel carries."""
    if peer.backend != TYPE:
        message = f"its lease says backend {peer.backend or 'udp'}, this node runs {TYPE}: give both the same config"
        return Problem("peer-backend-differs", peer.node, message)
    prefixes = [one for one in peer.prefixes if one.version in tunnel.inner]
    if not prefixes:
        return None
    field, data = _data(peer, tunnel)
    try:
        found = parse_lease_data(data, tunnel.port)
    except Unreadable as error:
        message = f"its lease's {field} {error}; start its daemon again, which then writes the lease anew"
        return Problem("peer-data-unreadable", peer.node, message)
    endpoints = tuple(
        Endpoint(str(address), found.port) for address in peer.endpoints if address.version in tunnel.outer
    )
    if not endpoints:
        families = " or ".join(f"IPv{family}" for family in tunnel.outer)
        message = (
            f"it has no {families} address, and this node reaches it over that alone: give it one (--public-ip, "
            "--public-ipv6)"
        )
        return Problem("peer-no-endpoint", peer.node, message)
    return DataPeer(
        peer.key,
        tuple(map(str, prefixes)),
        endpoints,
        settings(found.public, common.psk, common.keepalive_s, found.former),
    )


def _data(peer: Peer, tunnel: Tunnel) -> tuple[str, JsonObject]:
    """The field's name, and what it holds. A device for both families has its key in both (flannel reads the first)."""
    fields = {4: ("BackendData", peer.data), 6: ("BackendV6Data", peer.data_v6)}
    named = [fields[family] for family in tunnel.inner]
    return next((one for one in named if one[1]), named[0])


def without_shared_keys(
    found: Iterable[tuple[Peer, DataPeer]], own: Mapping[str, str]
) -> tuple[list[DataPeer], list[Problem]]:
    """A public key is one peer. Of leases with the same, the youngest stays: an older one is what a node that lost its
    lease has left behind. `own`: public keys of ours, and how they are called."""
    kept: dict[str, DataPeer] = {}
    problems: list[Problem] = []
    holders = dict(own)
    for peer, one in sorted(found, key=lambda pair: (-pair[0].revision, pair[0].key)):
        public = str(one.settings["PublicKey"])
        if public in holders:
            message = (
                f"lease {peer.key} has the WireGuard key of {holders[public]}: no packets go to it. Where it is that "
                "node's own earlier lease, release it (tulle leases release); where a machine was cloned, remove "
                "wireguard.key in the state directory of one, and start its tulled again"
            )
            problems.append(Problem("peer-key-shared", peer.node, message))
        else:
            holders[public] = peer.node
            kept[peer.key] = one
    return [_without_foreign_former(kept[key], holders) for key in sorted(kept)], problems


def _without_foreign_former(peer: DataPeer, holders: Mapping[str, str]) -> DataPeer:
    """A key that another has now is not this one's former."""
    if peer.settings.get("FormerPublicKey") not in holders:
        return peer
    kept = {name: value for name, value in peer.settings.items() if name != "FormerPublicKey"}
    return msgspec.structs.replace(peer, settings=kept)


def with_prefixes(peer: DataPeer, more: Sequence[Prefix]) -> DataPeer:
    """What lies behind that node, beside its own pods."""
    if not more:
        return peer
    return msgspec.structs.replace(peer, prefixes=(*peer.prefixes, *map(str, more)))
