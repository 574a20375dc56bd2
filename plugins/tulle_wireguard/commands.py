"""The words of `tulle wireguard`. Those about stock peers work on the store alone, without a tulled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from tulle.cli.output import as_data, output_option, table
from tulle.cli.rundir import run_dir_option
from tulle.cli.store import StoreAccess, store_options
from tulle.config.network import NetworkConfig
from tulle.config.options import convert_options
from tulle.contracts.backend import Peer
from tulle.contracts.store import Delete, Put, Store
from tulle.lease.registered import Registered, read
from tulle.node.client import Client
from tulle_wireguard.methods import GRACE_S, LONGEST_GRACE_S, RotateAnswer
from tulle_wireguard.options import WireguardOptions
from tulle_wireguard.quick import NodePeer, attached_to, node_peers, quick_text
from tulle_wireguard.stock import (
    FOLDER,
    StockPeer,
    attach,
    clash,
    decode,
    encode,
    is_name,
    made,
)

ROTATE_S = 30.0
HEADERS = ("NAME", "PUBLIC KEY", "ALLOWED IPS", "ENDPOINT", "VIA")
NAMES = ("wireguard", "encrypted-udp")
"""Of the backend, in the network config."""


class Cluster(msgspec.Struct, frozen=True):
    """What the store holds, as far as stock peers are concerned."""

    known: Registered
    config: NetworkConfig
    options: WireguardOptions
    records: dict[str, bytes]
    """Of stock peers, by name."""

    def nodes(self) -> list[NodePeer]:
        """In the order of their leases."""
        found: list[NodePeer] = []
        for key, item in self.known.leases.items():
            owner = self.known.owner(key)
            name = owner.value.name if owner is not None and owner.value is not None else key
            if item.value is not None:
                found += node_peers(name, item.value, self.options)
        return found

    def text_for(self, peer: StockPeer) -> str:
        return quick_text(peer, attached_to(peer, self.nodes(), self.config.networks), self.options)


async def look(store: Store, prefix: str) -> Cluster:
    """Raises ConfigError, StoreError, ClickException where this cluster has no use for peers of WireGuard."""
    known = await read(store, prefix)
    config = known.network()
    if config is None:
        raise click.ClickException(f"there is no network config under {prefix}: write one with tulle init")
    if config.backend_type.lower() not in NAMES:
        raise click.ClickException(
            f"this cluster's backend is {config.backend_type}, and only wireguard knows such peers: change it with "
            "tulle config set, and start every tulled again"
        )
    options, _ = convert_options(WireguardOptions, config.backend_options)
    folder = f"{prefix.rstrip('/')}/{FOLDER}/"
    listing = await store.list(folder)
    records = {kv.key.removeprefix(folder): kv.value for kv in listing.items}
    return Cluster(known, config, options, records)


def record_key(prefix: str, name: str) -> str:
    return f"{prefix.rstrip('/')}/{FOLDER}/{name}"


def checked(cluster: Cluster, peer: StockPeer) -> None:
    """Raises ClickException where nodes would refuse it, or a part of it, or another peer because of it."""
    if taken := clash(peer, cluster.records):
        raise click.ClickException(taken)
    missing = [one for one in peer.via if one not in cluster.known.members]
    if missing:
        names = ", ".join(sorted(cluster.known.members)) or "none yet"
        raise click.ClickException(f"--via: there is no node {missing[0]}; there are: {names}")
    if any(one.public == peer.public for one in cluster.nodes()):
        raise click.ClickException("--public-key: a node of the cluster has this key; give the peer its own")
    peers = [
        Peer(key, key, item.value.prefixes, tuple(item.value.public.values()), item.value.backend)
        for key, item in cluster.known.leases.items()
        if item.value is not None
    ]
    records = {**cluster.records, peer.name: encode(msgspec.structs.replace(peer, via=()))}
    found = attach(records, node="", peers=peers, own=(), own_keys=(), underlay=())
    for problem in found.problems:
        if problem.subject == peer.name:
            raise click.ClickException(problem.message)


@click.command("add-peer")
@click.argument("name")
@click.option("--public-key", required=True, help="The peer's, as `wg pubkey` writes it.")
@click.option(
    "--allowed-ips",
    required=True,
    metavar="NETWORK,...",
    help="What lies behind it: its address (10.99.0.7/32), networks. None that a node's pods have.",
)
@click.option("--endpoint", default="", help="Address and port, where it can be reached from the nodes.")
@click.option(
    "--preshared-key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with a key that `wg genpsk` wrote.",
)
@click.option("--persistent-keepalive", default=0, show_default=True, help="Seconds, of the nodes; 0: none.")
@click.option("--via", multiple=True, metavar="NODE", help="Attach it to this node alone; repeatable.")
@store_options
def add_peer(
    access: StoreAccess,
    name: str,
    public_key: str,
    allowed_ips: str,
    endpoint: str,
    preshared_key_file: Path | None,
    persistent_keepalive: int,
    via: tuple[str, ...],
) -> None:
    """Let NAME, a stock WireGuard, reach the pods, and print a wg-quick configuration for it.

    Each node has it as a peer from then on; with --via these alone, and the others reach it by the first of them. Said
    again, it takes the place of what was said before.
    """
    if not is_name(name):
        raise click.BadParameter("give a name such as laptop-7", param_hint="NAME")
    try:
        peer = made(
            name,
            public_key,
            allowed_ips.split(","),
            endpoint=endpoint,
            psk=preshared_key_file.read_text().strip() if preshared_key_file is not None else "",
            keepalive_s=persistent_keepalive,
            via=via,
        )
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error

    async def work(store: Store) -> str:
        cluster = await look(store, access.prefix)
        checked(cluster, peer)
        await store.transact([], [Put(record_key(access.prefix, name), encode(peer))])
        return cluster.text_for(peer)

    click.echo(access.run(work), nl=False)
    click.echo(f"{name}: written to {access.place}; above is what it needs", err=True)


@click.command("peer-config")
@click.argument("name")
@store_options
def peer_config(access: StoreAccess, name: str) -> None:
    """Print NAME's wg-quick configuration anew: nodes have come, gone or changed their keys."""

    async def work(store: Store) -> str:
        cluster = await look(store, access.prefix)
        return cluster.text_for(_known(cluster, name))

    click.echo(access.run(work), nl=False)


@click.command("remove-peer")
@click.argument("name")
@store_options
def remove_peer(access: StoreAccess, name: str) -> None:
    """Forget NAME: no node speaks to it any more."""

    async def work(store: Store) -> None:
        key = record_key(access.prefix, name)
        if await store.get(key) is None:
            raise click.ClickException(f"there is no peer {name}; tulle wireguard peers lists them")
        await store.transact([], [Delete(key)])

    access.run(work)
    click.echo(f"{name}: removed")


@click.command("peers")
@output_option
@store_options
def list_peers(access: StoreAccess, output: str) -> None:
    """The stock peers of this cluster."""

    async def work(store: Store) -> dict[str, bytes]:
        return (await look(store, access.prefix)).records

    records = access.run(work)
    found = [_told(name, value) for name, value in sorted(records.items())]
    if as_data(found, output):
        return
    if not found:
        click.echo(f"no stock peers in {access.place}; tulle wireguard add-peer makes one")
        return
    table(HEADERS, [_row(one) for one in found])


@click.command("rotate-key")
@click.option(
    "--grace",
    type=click.FloatRange(0, LONGEST_GRACE_S),
    default=GRACE_S,
    show_default=True,
    help="Seconds for which the old key is taken too; 0 where it has been stolen.",
)
@output_option
@run_dir_option
def rotate_key(run_dir: Path, grace: float, output: str) -> None:
    """Give this node a new key. The other nodes learn it from its lease, and no packet is lost.

    Stock peers do not read leases: give them the new key (tulle wireguard peer-config) before the old one's time is
    over.
    """
    answer = msgspec.convert(
        Client(run_dir, ROTATE_S).post("wireguard/rotate-key", {"grace_s": grace}), RotateAnswer
    )
    if as_data(answer, output):
        return
    for device, public in answer.public_keys.items():
        click.echo(f"{device}: {public}")
    click.echo(
        f"the old key is taken for {grace:.0f} s more" if grace else "the old key is refused from now on"
    )


def _known(cluster: Cluster, name: str) -> StockPeer:
    if name not in cluster.records:
        raise click.ClickException(f"there is no peer {name}; tulle wireguard peers lists them")
    try:
        return decode(name, cluster.records[name])
    except ValueError as error:
        advice = "say it anew with tulle wireguard add-peer"
        raise click.ClickException(f"{name}: {error}; {advice}") from error


def _told(name: str, value: bytes) -> dict[str, Any]:
    """Without its pre-shared key."""
    try:
        peer = decode(name, value)
    except ValueError as error:
        return {"name": name, "problem": str(error)}
    return {
        "name": name,
        "public_key": peer.public,
        "allowed_ips": [str(one) for one in peer.allowed],
        "endpoint": str(peer.endpoint) if peer.endpoint else "",
        "preshared_key": bool(peer.psk),
        "persistent_keepalive": peer.keepalive_s,
        "via": list(peer.via),
    }


def _row(told: dict[str, Any]) -> Sequence[str]:
    if "problem" in told:
        return (told["name"], f"unreadable: {told['problem']}", "-", "-", "-")
    return (
        told["name"],
        told["public_key"],
        ", ".join(told["allowed_ips"]),
        told["endpoint"] or "-",
        ", ".join(told["via"]) or "all nodes",
    )


COMMANDS: dict[str, click.Command] = {
    str(one.name): one for one in (add_peer, list_peers, peer_config, remove_peer, rotate_key)
}
