"""What `GET /v1/status` answers. Pure: what is asked for comes in, what is said comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tulle import __version__
from tulle.contracts.backend import JsonObject, Peer, Problem, Underlay
from tulle.net.prefix import Family
from tulle.node.answers import (
    DROP,
    DataplaneAnswer,
    MendAnswer,
    PeerAnswer,
    StatusAnswer,
    StoreAnswer,
    Traffic,
    TunnelAnswer,
    UnderlayAnswer,
    drops_of,
)
from tulle.node.state import NodeState


def snapshot(node: NodeState, peer: str = "") -> StatusAnswer:
    """Everything; with `peer` only the peers that this names (by node, lease key, subnet or address)."""
    reasons = node.not_ready()
    planes = {plane.name: plane.status() for plane in node.planes}
    traffic = traffic_by_peer(plane["peers"] for plane in planes.values())
    tunnels = tunnels_by_peer({name: plane["peers"] for name, plane in planes.items()})
    named = [one for one in node.peers if not peer or is_named(one, peer)]
    return StatusAnswer(
        node=node.config.node_name,
        version=__version__,
        ready=not reasons,
        not_ready_because=reasons,
        store=_store(node),
        networks=[str(one) for one in (node.network.config.networks if node.network else ())],
        subnets=[str(one) for one in (node.context.prefixes if node.context else ())],
        underlay=_underlay(node.underlay),
        backend=_backend(node),
        dataplane=msgspec.convert(planes.get("", {}), DataplaneAnswer),
        second_dataplanes={
            name: msgspec.convert(plane, DataplaneAnswer) for name, plane in planes.items() if name
        },
        components=dict(node.components.status()),
        peers=[_peer(one, traffic.get(one.key), tunnels.get(one.key, [])) for one in named],
        peer_count=len(node.peers),
        problems=problems(node),
        mended=[MendAnswer(at=one.at, line=one.line) for one in node.keeper.mends],
        mends=node.keeper.mend_count,
    )


def is_named(one: Peer, text: str) -> bool:
    return text in (one.node, one.key, *map(str, one.prefixes), *map(str, one.endpoints))


def problems(node: NodeState) -> list[Problem]:
    """What does not work now, also where packets still pass."""
    found = [*node.problems(), *node.membership.problems()]
    for error in (error for plane in node.planes for error in plane.status()["errors"]):
        advice = "no packets go to this peer; its log and ours say more"
        found.append(Problem("peer-refused", node.config.node_name, f"{error}; {advice}"))
    return found


def traffic_of(counters: Mapping[str, Any]) -> Traffic:
    """An engine's counters of one peer, by the names of contracts.engine."""
    return Traffic(
        packets_out=int(counters.get("packets-out", 0)),
        bytes_out=int(counters.get("bytes-out", 0)),
        packets_in=int(counters.get("packets-in", 0)),
        bytes_in=int(counters.get("bytes-in", 0)),
        last_seen_s_ago=counters.get("last-seen"),
        drops=drops_of(counters),
    )


def traffic_by_peer(planes: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """What planes count of their peers, by key: a peer may be in several."""
    found: dict[str, Mapping[str, Any]] = {}
    for plane in planes:
        for key, counters in plane.items():
            found[key] = _both(found[key], counters) if key in found else counters
    return found


def tunnels_by_peer(
    planes: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, list[TunnelAnswer]]:
    """What the encapsulations report of peers, by key; in the order of the planes, which are given by name."""
    found: dict[str, list[TunnelAnswer]] = {}
    for name, plane in planes.items():
        for key, told in plane.items():
            if "endpoint" in told or "last-handshake" in told:
                tunnel = TunnelAnswer(
                    dataplane=name,
                    endpoint=told.get("endpoint", ""),
                    last_handshake_s_ago=told.get("last-handshake"),
                )
                found.setdefault(key, []).append(tunnel)
    return found


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    sums = {name: one.get(name, 0) + value for name, value in other.items() if _is_count(name)}
    seen = [told["last-seen"] for told in (one, other) if "last-seen" in told]
    return {**other, **one, **sums, **({"last-seen": min(seen)} if seen else {})}


def _is_count(name: str) -> bool:
    return name.startswith((DROP, "packets-", "bytes-"))


def _store(node: NodeState) -> StoreAnswer:
    membership = node.membership
    told = membership.told()
    return StoreAnswer(
        name=membership.name,
        location=membership.location,
        single_machine=membership.single_machine,
        by_default=node.config.store_default,
        prefix=membership.prefix,
        mirrors=dict(told.mirrors),
        lease=told.lease,
        detail=dict(told.detail),
        **membership.watch.status(),
    )


def _underlay(found: Underlay | None) -> UnderlayAnswer:
    if found is None:
        return UnderlayAnswer()
    return UnderlayAnswer(
        link=found.link,
        mtu=found.mtu,
        addresses=_by_family(found.addresses),
        public=_by_family(found.public),
        because=found.chosen_because,
    )


def _by_family(addresses: Mapping[Family, object]) -> list[str]:
    return [str(addresses[family]) for family in sorted(addresses)]


def _backend(node: NodeState) -> dict[str, object]:
    """The type as soon as the network config is known, the rest once it has started."""
    if node.network is None:
        return {}
    told: JsonObject = {} if node.backend is None or node.doing else node.backend.status()
    return {"type": node.network.backend.name, **told}


def _peer(one: Peer, counters: Mapping[str, Any] | None, tunnels: list[TunnelAnswer]) -> PeerAnswer:
    return PeerAnswer(
        key=one.key,
        node=one.node,
        subnets=_texts(one.prefixes),
        endpoints=_texts(one.endpoints),
        backend=one.backend,
        traffic=None if counters is None else traffic_of(counters),
        tunnels=tunnels,
    )


def _texts(some: Sequence[object]) -> list[str]:
    return [str(one) for one in some]
