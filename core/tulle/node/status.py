"""The parts of `tulle status` as JSON-ready objects. Pure: what is asked for comes in, what is said comes out."""

from __future__ import annotations

from tulle.config.daemon import DaemonConfig
from tulle.contracts.backend import Backend, JsonObject, Peer, Underlay
from tulle.contracts.store import Store
from tulle.lease.manager import LeaseManager
from tulle.node.network import Network


def store(where: Store, config: DaemonConfig, leases: LeaseManager | None) -> JsonObject:
    return {
        "name": config.store,
        "location": where.location,
        "single_machine": where.single_machine,
        "by_default": config.store_default,
        **({"state": "not asked yet"} if leases is None else leases.status()),
    }


def underlay(found: Underlay | None) -> JsonObject:
    if found is None:
        return {}
    return {
        "link": found.link,
        "mtu": found.mtu,
        "addresses": [str(one) for one in found.addresses.values()],
        "public": [str(one) for one in found.public.values()],
        "because": found.chosen_because,
    }


def backend(network: Network | None, started: Backend | None) -> JsonObject:
    """The type as soon as the network config is known, the rest once it has started."""
    if network is None:
        return {}
    return {"type": network.backend.name, **(started.status() if started is not None else {})}


def peer(one: Peer) -> JsonObject:
    return {
        "key": one.key,
        "node": one.node,
        "subnets": [str(prefix) for prefix in one.prefixes],
        "endpoints": [str(address) for address in one.endpoints],
        "backend": one.backend,
    }
