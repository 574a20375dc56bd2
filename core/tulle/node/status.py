"""What `GET /v1/status` answers. Pure: what is asked for comes in, what is said comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tulle import __version__
from tulle.contracts.backend import JsonObject, Peer, Problem, Underlay
from tulle.net.prefix import Family
from tulle.node.answers import (
    DataplaneAnswer,
    MendAnswer,
    PeerAnswer,
    StatusAnswer,
    StoreAnswer,
    Traffic,
    UnderlayAnswer,
    drops_of,
)
from tulle.node.state import NodeState


def snapshot(node: NodeState, peer: str = "") -> StatusAnswer:
    """Everything; with `peer` only the peers that this names (by node, lease key, subnet or address)."""
    reasons = node.not_ready()
    plane = node.dataplane.status() if node.dataplane is not None else {}
    traffic: Mapping[str, Mapping[str, float]] = plane.get("peers", {})
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
        dataplane=msgspec.convert(plane, DataplaneAnswer),
        components=dict(node.components.status()),
        peers=[_peer(one, traffic.get(one.key)) for one in named],
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
    for error in node.dataplane.status()["errors"] if node.dataplane is not None else ():
        advice = "no packets go to this peer; its log and ours say more"
        found.append(Problem("peer-refused", node.config.node_name, f"{error}; {advice}"))
    return found


def traffic_of(counters: Mapping[str, float]) -> Traffic:
    """An engine's counters of one peer, by the names of contracts.engine."""
    return Traffic(
        packets_out=int(counters.get("packets-out", 0)),
        bytes_out=int(counters.get("bytes-out", 0)),
        packets_in=int(counters.get("packets-in", 0)),
        bytes_in=int(counters.get("bytes-in", 0)),
        last_seen_s_ago=counters.get("last-seen"),
        drops=drops_of(counters),
    )


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


def _peer(one: Peer, counters: Mapping[str, float] | None) -> PeerAnswer:
    return PeerAnswer(
        key=one.key,
        node=one.node,
        subnets=_texts(one.prefixes),
        endpoints=_texts(one.endpoints),
        backend=one.backend,
        traffic=None if counters is None else traffic_of(counters),
    )


def _texts(some: Sequence[object]) -> list[str]:
    return [str(one) for one in some]
