"""Which routes lead to a peer, or why none can: pure.

A peer can be a gateway only where its address is reached on the underlay's link without another gateway: a router in
between would have to know the pods' subnets itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from tulle.contracts.backend import Peer, Problem, Underlay
from tulle.contracts.kernel import WantedRoute
from tulle.direct import direct_route
from tulle.net.prefix import Address, Prefix

TYPE = "host-gw"


def routes_to(peer: Peer, underlay: Underlay) -> tuple[WantedRoute, ...] | Problem:
    """One route a subnet of the peer, all or none."""
    if peer.backend != TYPE:
        said = f"says backend {peer.backend}" if peer.backend else "names no backend"
        message = f"its lease {said}, this node runs {TYPE}: give both the same network config"
        return Problem("peer-backend-differs", peer.node, message)
    found = []
    for prefix in peer.prefixes:
        route = direct_route(peer, prefix, underlay)
        if route is None:
            known = [address for address in peer.endpoints if address.version == prefix.version]
            return _not_adjacent(peer, prefix, known, underlay) if known else _no_address(peer, prefix)
        found.append(route)
    return tuple(found)


def _no_address(peer: Peer, prefix: Prefix) -> Problem:
    message = (
        f"its lease names no IPv{prefix.version} address that could be the gateway to {prefix}, so no packet goes "
        f"there; give its interface an IPv{prefix.version} address, or choose a backend with a tunnel"
    )
    return Problem("peer-no-endpoint", peer.node, message)


def _not_adjacent(peer: Peer, prefix: Prefix, known: Sequence[Address], underlay: Underlay) -> Problem:
    networks = [str(one) for one in underlay.connected if one.version == prefix.version]
    here = (
        f"{underlay.link} is connected to {', '.join(networks)} alone"
        if networks
        else (f"{underlay.link} has no IPv{prefix.version} network")
    )
    message = (
        f"{known[0]} is not on the same link as this node ({here}), so no packet goes to {prefix}: the routers "
        "in between do not know it. Use backend vxlan, udp or wireguard, or put the nodes on one link"
    )
    return Problem("peer-not-adjacent", peer.node, message)
