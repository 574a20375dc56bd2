"""`tulle init`: the first network config of a cluster."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from tulle.cli.output import as_data, output_option
from tulle.cli.store import StoreAccess, store_options
from tulle.config.network import render_network_config
from tulle.contracts.store import Put, Store, absent
from tulle.node.network import check_network

DEFAULT_NETWORK = "10.42.0.0/16"


@click.command()
@click.option(
    "--network", help=f"IPv4 network of all pods.  [default: {DEFAULT_NETWORK} without --ipv6-network]"
)
@click.option("--subnet-len", type=int, help="Prefix length of a node's IPv4 subnet.  [default: 24]")
@click.option("--ipv6-network", help="IPv6 network of all pods.")
@click.option("--ipv6-subnet-len", type=int, help="Prefix length of a node's IPv6 subnet.  [default: 64]")
@click.option("--backend", default="udp", show_default=True, help="How packets reach other nodes.")
@click.option(
    "--backend-option", multiple=True, metavar="KEY=VALUE", help="An option of the backend; repeatable."
)
@click.option("--force", is_flag=True, help="Replace a config that is there.")
@output_option
@store_options
def init(
    access: StoreAccess,
    backend: str,
    backend_option: tuple[str, ...],
    force: bool,
    output: str,
    **given: Any,
) -> None:
    """Write a network config into the store, once for a whole cluster."""
    checked = check_network(json.dumps(wanted_config(backend, backend_option, given)), access.plugins)
    text = render_network_config(checked.config)
    for warning in checked.warnings:
        click.echo(f"warning: {warning}", err=True)
    key = f"{access.prefix}/config"
    there = access.run(lambda store: write_config(store, key, text, force), makes=True)
    if there is not None and there != text:
        raise click.ClickException(
            f"there is another network config at {key} in {access.place}:\n{there.rstrip()}\n"
            "Use it as it is, or replace it with --force: running nodes keep theirs until they are restarted."
        )
    if as_data(Written(key, access.config.store, there is None, json.loads(text)), output):
        return
    if there is None:
        click.echo(
            f"written: {key} in {access.place}\n{text}next: start tulled on each node with the same store"
        )
    else:
        click.echo(f"already there, and the same: {key} in {access.place}")


class Written(msgspec.Struct, frozen=True):
    """What `-o json` prints."""

    key: str
    store: str
    written: bool
    """False: the same was there already."""
    config: dict[str, Any]


def wanted_config(backend: str, backend_options: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    """The JSON object that the flags describe, unchecked."""
    config: dict[str, Any] = {"Backend": {"Type": backend, **dict(map(key_value, backend_options))}}
    if given["ipv6_network"]:
        config |= {"EnableIPv6": True, "IPv6Network": given["ipv6_network"]}
        if given["ipv6_subnet_len"] is not None:
            config["IPv6SubnetLen"] = given["ipv6_subnet_len"]
    if given["network"] or not given["ipv6_network"]:
        config["Network"] = given["network"] or DEFAULT_NETWORK
        if given["subnet_len"] is not None:
            config["SubnetLen"] = given["subnet_len"]
    else:
        config["EnableIPv4"] = False
    return config


def key_value(text: str) -> tuple[str, Any]:
    """KEY=VALUE; the value is JSON where it can be, else text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--backend-option")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


async def write_config(store: Store, key: str, text: str, force: bool) -> str | None:
    """None where it was written, else what is there."""
    conditions = [] if force else [absent(key)]
    result = await store.transact(conditions, [Put(key, text.encode())])
    if result.succeeded:
        return None
    found = await store.get(key)
    return found.value.decode(errors="replace") if found is not None else None
