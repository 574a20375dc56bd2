"""What is known of this node before the first check: told by the tulled that runs; without one, put together from the
run directory, subnet.env, the kernel and the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from tulle.config.daemon import DaemonConfig
from tulle.config.errors import ConfigError
from tulle.contracts.backend import Family, JsonObject, Peer
from tulle.contracts.doctor import DoctorContext
from tulle.contracts.specs import SubnetManagerSpec
from tulle.contracts.store import KeyValue, Store, StoreError
from tulle.kernel.underlay import Surroundings
from tulle.lease.codec import decode_lease, decode_member
from tulle.lease.model import Lease, Member
from tulle.lease.table import PeerTable
from tulle.net.prefix import Address, Prefix, parse_prefix, subnet_key
from tulle.node import subnet_env
from tulle.node.client import ApiError, Client, NotRunning
from tulle.node.network import Network, check_network
from tulle.node.rundir import Record, RunDir
from tulle.plugins import PluginError, Plugins
from tulle.store.items import Changes, Item

KINDS = ("subnets/", "members/", "alive/")

STATUS_S = 5.0


async def survey(
    config: DaemonConfig, plugins: Plugins, store: Store | None, store_at: str, store_error: str = ""
) -> DoctorContext:
    """Raises nothing: what is not known stays empty. `store_error`: why there is no store."""
    status, status_error = ask_tulled(config)
    record = RunDir(config.run_dir).record()
    records: dict[str, KeyValue] = {}
    if store is not None:
        try:
            records = await read_records(store, config.prefix)
        except StoreError as error:
            store_error = str(error)
    base = DoctorContext(
        node=status["node"] if status else record.node if record else config.node_name,
        run_dir=config.run_dir,
        state_dir=Path(record.state_dir) if record else config.state_dir,
        subnet_file=config.subnet_file,
        status=status,
        status_error=status_error,
        store=store,
        store_at=store_at,
        store_error=store_error,
        kept_elsewhere=_kept_elsewhere(config, plugins),
        prefix=config.prefix,
        records=records,
    )
    network = _network(records.get(f"{config.prefix}/config"), plugins)
    base = msgspec.structs.replace(base, overhead_bytes=_overhead(network, plugins))
    if status is not None:
        return told(base, status)
    return await _put_together(base, network, record)


def _kept_elsewhere(config: DaemonConfig, plugins: Plugins) -> bool:
    """False where no plugin is known by that name: then opening the store has said so."""
    try:
        return isinstance(plugins.store_choice(config.store), SubnetManagerSpec)
    except PluginError:
        return False


def ask_tulled(config: DaemonConfig) -> tuple[dict[str, Any] | None, str]:
    """Its status, or why there is none."""
    try:
        return Client(config.run_dir, STATUS_S).get("status"), ""
    except (NotRunning, ApiError) as error:
        return None, str(error)


async def read_records(store: Store, prefix: str) -> dict[str, KeyValue]:
    """The config and all leases, member and alive records, by key. Raises StoreError."""
    found = await store.get(f"{prefix}/config")
    records = {} if found is None else {found.key: found}
    for kind in KINDS:
        records |= {kv.key: kv for kv in (await store.list(f"{prefix}/{kind}")).items}
    return records


def told(base: DoctorContext, status: JsonObject) -> DoctorContext:
    """With what tulled says. Pure; a part that it does not know yet is missing from its answer."""
    backend, underlay = status.get("backend", {}), status.get("underlay", {})
    ports = tuple(backend.get("ports", ())) or tuple(filter(None, [backend.get("port", 0)]))
    return msgspec.structs.replace(
        base,
        networks=_prefixes(status.get("networks", ())),
        subnets=_prefixes(status.get("subnets", ())),
        peers=peers_of(status),
        link=underlay.get("link", ""),
        backend=backend.get("type", ""),
        device=backend.get("device", ""),
        devices=tuple(backend.get("devices", ())) or tuple(filter(None, [backend.get("device", "")])),
        mtu=backend.get("mtu", 0),
        port=ports[0] if ports else 0,
        ports=ports,
    )


def peers_of(status: JsonObject) -> tuple[Peer, ...]:
    """The peers in tulled's answer."""
    return tuple(
        Peer(
            key=one["key"],
            node=one["node"],
            prefixes=_prefixes(one["subnets"]),
            endpoints=tuple(ip_address(address) for address in one["endpoints"]),
            backend=one["backend"],
        )
        for one in status.get("peers", ())
    )


async def _put_together(base: DoctorContext, network: Network | None, record: Record | None) -> DoctorContext:
    from tulle.kernel.netlink import Netlink

    async with Netlink() as netlink:
        seen = await netlink.surroundings()
    networks = network.config.networks if network is not None else ()
    path = base.subnet_file if record is None or not record.subnet_file else Path(record.subnet_file)
    subnets = subnet_env.previous_subnets(path)
    port = getattr(network.options, "port", 0) if network is not None else 0
    return msgspec.structs.replace(
        base,
        subnet_file=path,
        networks=networks,
        subnets=subnets,
        peers=peers_in(base.records, base.prefix, subnets, networks),
        link=uplink(seen, advertised(base.records, base.prefix, subnets)),
        backend=network.config.backend_type if network is not None else "",
        device=next((one.name for one in seen.links if one.ours), ""),
        devices=tuple(one.name for one in seen.links if one.ours),
        port=port,
        ports=(port,) if port else (),
    )


def peers_in(
    records: Mapping[str, KeyValue], prefix: str, own: Sequence[Prefix], networks: Sequence[Prefix]
) -> tuple[Peer, ...]:
    """The other nodes, as a tulled would make them of these records. Pure."""
    leases: dict[str, Item[Lease]] = {}
    members: dict[str, Item[Member]] = {}
    for key, kv in records.items():
        if key.startswith(f"{prefix}/subnets/"):
            lease = decode_lease(kv)
            leases[key] = Item(kv, lease if isinstance(lease, Lease) else None)
        elif key.startswith(f"{prefix}/members/"):
            member = decode_member(kv)
            members[key] = Item(kv, member if isinstance(member, Member) else None)
    table = PeerTable(_key(own), own, networks)
    table.apply(Changes(True, leases, {}), Changes(True, members, {}))
    return table.peers()


def _key(own: Sequence[Prefix]) -> str:
    try:
        return subnet_key(tuple(own))
    except ValueError:
        return ""


def _network(found: KeyValue | None, plugins: Plugins) -> Network | None:
    """What is wrong with it, the check of the store says."""
    if found is None:
        return None
    try:
        return check_network(found.value, plugins)
    except ConfigError:
        return None


def _overhead(network: Network | None, plugins: Plugins) -> dict[Family, int]:
    if network is None:
        return {}
    try:
        backend = plugins.make(network.backend, *(() if network.options is None else (network.options,)))
        return {4: backend.overhead_bytes(4), 6: backend.overhead_bytes(6)}
    except (PluginError, ValueError):
        return {}


def advertised(records: Mapping[str, KeyValue], prefix: str, own: Sequence[Prefix]) -> list[Address]:
    """The addresses that our own lease tells the others. Pure."""
    kv = records.get(f"{prefix}/subnets/{_key(own)}")
    lease = decode_lease(kv) if kv is not None else None
    return list(lease.public.values()) if isinstance(lease, Lease) else []


def uplink(seen: Surroundings, public: Sequence[Address]) -> str:
    """The interface with an address that others are told; else that of the default route, which a tulled takes that is
    told nothing. Pure."""
    for link in seen.links:
        if not link.ours and any(one.address.ip in public for one in link.addresses):
            return link.name
    names = {one.index: one.name for one in seen.links}
    return next((names.get(way.index, "") for way in seen.ways.values()), "")


def _prefixes(texts: Sequence[str]) -> tuple[Prefix, ...]:
    return tuple(parse_prefix(one) for one in texts)
