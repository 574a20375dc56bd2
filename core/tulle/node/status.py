"""`tulle status` as a JSON-ready object. Pure: what is asked for comes in, what is said comes out."""

from __future__ import annotations

from typing import Any

import msgspec

from tulle import __version__
from tulle.contracts.backend import JsonObject, Peer, Underlay
from tulle.node.state import NodeState


def snapshot(node: NodeState) -> dict[str, Any]:
    """Everything. docs/api.md describes it."""
    reasons = node.not_ready()
    return {
        "node": node.config.node_name,
        "version": __version__,
        "ready": not reasons,
        "not_ready_because": reasons,
        "store": _store(node),
        "networks": [str(one) for one in (node.network.config.networks if node.network else ())],
        "subnets": [str(one) for one in (node.context.prefixes if node.context else ())],
        "underlay": _underlay(node.underlay),
        "backend": _backend(node),
        "dataplane": node.dataplane.status() if node.dataplane else {},
        "components": node.components.status(),
        "peers": [_peer(one) for one in node.peers],
        "problems": [msgspec.to_builtins(one) for one in node.problems()],
        "mended": [msgspec.to_builtins(one) for one in node.keeper.mends],
        "mends": node.keeper.mend_count,
    }


def _store(node: NodeState) -> JsonObject:
    return {
        "name": node.config.store,
        "location": node.store.location,
        "single_machine": node.store.single_machine,
        "by_default": node.config.store_default,
        **({} if node.leases is None else node.leases.status()),
        **node.store_watch.status(),
    }


def _underlay(found: Underlay | None) -> JsonObject:
    if found is None:
        return {}
    return {
        "link": found.link,
        "mtu": found.mtu,
        "addresses": [str(one) for one in found.addresses.values()],
        "public": [str(one) for one in found.public.values()],
        "because": found.chosen_because,
    }


def _backend(node: NodeState) -> JsonObject:
    """The type as soon as the network config is known, the rest once it has started."""
    if node.network is None:
        return {}
    started = node.backend is not None and not node.doing
    return {"type": node.network.backend.name, **(node.backend.status() if node.backend and started else {})}


def _peer(one: Peer) -> JsonObject:
    return {
        "key": one.key,
        "node": one.node,
        "subnets": [str(prefix) for prefix in one.prefixes],
        "endpoints": [str(address) for address in one.endpoints],
        "backend": one.backend,
    }
