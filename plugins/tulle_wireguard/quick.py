"""What a stock peer needs to know of the cluster, as a file for wg-quick(8). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from tulle.lease.model import Lease
from tulle.net.prefix import Prefix
from tulle_wireguard.leasedata import TYPE, Unreadable, parse_lease_data
from tulle_wireguard.options import WireguardOptions
from tulle_wireguard.place import Place
from tulle_wireguard.stock import StockPeer

KEEPALIVE_S = 25
"""For who is spoken to nowhere: it must speak first, and keep what is between open (wg(8) names this number)."""
DEFAULT_MTU = 1500


class NodePeer(msgspec.Struct, frozen=True, kw_only=True):
    """A node's device as a stock peer has it: one [Peer]."""

    node: str
    public: str
    endpoint: Place
    prefixes: tuple[Prefix, ...]


def node_peers(node: str, lease: Lease, options: WireguardOptions) -> Iterator[NodePeer]:
    """One, or one for each family where these have devices of their own. None where its lease does not say enough."""
    if lease.backend != TYPE:
        return
    found: dict[str, NodePeer] = {}
    ports = {4: options.listen_port, 6: options.listen_port_v6}
    for prefix in lease.prefixes:
        data = lease.data if prefix.version == 4 else lease.data_v6
        one_device = options.mode != "separate"
        try:
            port = ports[4 if one_device else prefix.version]
            known = parse_lease_data(data if isinstance(data, dict) else {}, port)
        except Unreadable:
            continue
        outer = sorted(lease.public) if one_device else [prefix.version]
        if options.mode in ("ipv4", "ipv6"):
            outer = [int(options.mode[-1])]  # type: ignore[list-item]
        address = next((lease.public[family] for family in outer if family in lease.public), None)
        before = found.get(known.public)
        if before is not None:
            found[known.public] = msgspec.structs.replace(before, prefixes=(*before.prefixes, prefix))
        elif address is not None:
            endpoint = Place(address, known.port)
            found[known.public] = NodePeer(
                node=node, public=known.public, endpoint=endpoint, prefixes=(prefix,)
            )
    yield from found.values()


def attached_to(peer: StockPeer, nodes: Iterable[NodePeer], networks: Sequence[Prefix]) -> list[NodePeer]:
    """Which nodes it is to know, and what it reaches by each: that node's pods, or by the first of `via` all pods."""
    nodes = [one for one in nodes if _is_peer_of(peer, one)]
    if not peer.via:
        return nodes
    found: list[NodePeer] = []
    given: set[int] = set()
    for name in peer.via:
        for one in (one for one in nodes if one.node == name):
            families = {prefix.version for prefix in one.prefixes}
            whole = tuple(net for net in networks if net.version in families and net.version not in given)
            given |= {net.version for net in whole}
            found.append(msgspec.structs.replace(one, prefixes=whole) if whole else one)
    return found


def _is_peer_of(peer: StockPeer, node: NodePeer) -> bool:
    """A node's device has it for its AllowedIPs of the families that the device carries, and else not at all."""
    return bool({prefix.version for prefix in peer.allowed} & {prefix.version for prefix in node.prefixes})


def quick_text(
    peer: StockPeer, nodes: Sequence[NodePeer], options: WireguardOptions, *, place: str = ""
) -> str:
    """`place`: what the file is for, in its first line."""
    lines = [
        f"# {peer.name}{place}: for /etc/wireguard/<interface>.conf there",
        "[Interface]",
        f"PrivateKey = <the private key that belongs to {peer.public}>",
    ]
    hosts = [str(one) for one in peer.allowed if one.prefixlen == one.max_prefixlen]
    lines.append(f"Address = {', '.join(hosts)}" if hosts else "# Address = <one out of its AllowedIPs>")
    if peer.endpoint is not None:
        lines.append(f"ListenPort = {peer.endpoint.port}")
    lines.append(f"MTU = {(options.mtu or DEFAULT_MTU) - options.overhead_bytes(6)}")
    for one in nodes:
        lines += ["", f"# {one.node}", "[Peer]", f"PublicKey = {one.public}"]
        if peer.psk:
            lines.append(f"PresharedKey = {peer.psk}")
        lines.append(f"AllowedIPs = {', '.join(map(str, one.prefixes))}")
        lines.append(f"Endpoint = {one.endpoint}")
        if peer.endpoint is None:
            lines.append(f"PersistentKeepalive = {KEEPALIVE_S}")
    return "\n".join(lines) + "\n"
