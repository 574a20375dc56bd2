"""DirectRouting: peers on this node's own link get plain routes, all others the tunnel. Pure.

Shared by the backends that have it. The tunnel stays ready for a peer with a plain route, in both directions, so a node
takes packets that come either way at any time, and nodes can be switched one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tulle.contracts.backend import Peer, Problem, Underlay
from tulle.contracts.kernel import WantedRoute
from tulle.net.prefix import Address, Family, Prefix


def is_adjacent(address: Address, underlay: Underlay) -> bool:
    """Reached on the underlay's link without a gateway, and not this node itself."""
    here = (*underlay.addresses.values(), *underlay.public.values())
    return address not in here and any(
        address.version == prefix.version and address in prefix for prefix in underlay.connected
    )


def gateway(endpoints: Sequence[Address], family: Family, underlay: Underlay) -> Address | None:
    """The first of a peer's addresses that can be the gateway to its pods of that family."""
    ours = (one for one in endpoints if one.version == family)
    return next((one for one in ours if is_adjacent(one, underlay)), None)


def direct_route(peer: Peer, prefix: Prefix, underlay: Underlay) -> WantedRoute | None:
    """The plain route to one of the peer's subnets; None where there is a router in between."""
    near = gateway(peer.endpoints, prefix.version, underlay)
    return WantedRoute(prefix, underlay.link, "unicast", 0, gateway=near) if near is not None else None


def direct_routes(peer: Peer, underlay: Underlay) -> tuple[WantedRoute, ...]:
    """For those of its subnets that have one."""
    found = (direct_route(peer, prefix, underlay) for prefix in peer.prefixes)
    return tuple(one for one in found if one is not None)


def filter_problems(strict: Iterable[str]) -> tuple[Problem, ...]:
    """What a strict reverse path filter (RFC 3704) does to packets that may come either way."""
    return tuple(
        Problem(
            "rp-filter-strict",
            link,
            f"{link}: its reverse path filter is strict (rp_filter 1), so it throws away what peers send the other "
            "way: directly while this node still uses the tunnel, or the other way round. Set it to 2, loose: "
            f"sysctl -w net.ipv4.conf.{link.replace('.', '/')}.rp_filter=2 (the larger of that and conf.all holds)",
        )
        for link in strict
    )
