"""Which address is meant: an address itself, a node's name, or NODE/POD where the store has records of pods. Pure.

Pods' records are Kubernetes' Pod objects under `<prefix>/pods/<namespace>/<name>`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

import msgspec

from tulle.contracts.backend import Family, Peer
from tulle.contracts.doctor import DoctorContext
from tulle.contracts.store import KeyValue
from tulle.net.prefix import Address, Prefix


class UnknownTarget(ValueError):
    """The text says what is accepted."""


class Target(msgspec.Struct, frozen=True):
    """What a trace goes to."""

    address: Address
    what: str
    """For people: "the tunnel of node n2"."""
    node: str = ""
    """Whose subnet it lies in: a peer's name, our own, "" where it lies in none."""
    prefix: Prefix | None = None
    """That subnet."""
    peer: Peer | None = None
    """None where it is not another node's."""


def resolve(text: str, ctx: DoctorContext, family: Family | None, pods: Sequence[KeyValue]) -> Target:
    """`family`: wanted by the user, where several would do. Raises UnknownTarget."""
    try:
        address = ip_address(text)
    except ValueError:
        pass
    else:
        return located(address, str(address), ctx)
    if "/" in text:
        return _pod(text, ctx, family, pods)
    return node_target(text, ctx, family)


def other_node(name: str, ctx: DoctorContext, family: Family | None) -> Target:
    """Another node's own address in the tunnel. Raises UnknownTarget."""
    others = [peer.node for peer in ctx.peers]
    if name == ctx.node:
        raise UnknownTarget(
            f"{name} is this node, and a packet to it leaves it nowhere. The others are: {_listed(others)}"
        )
    if name not in others:
        raise UnknownTarget(
            f"{name!r} is no node that is known here. There are: {_listed(others)}{_why_few(ctx)}"
        )
    return node_target(name, ctx, family)


def node_target(name: str, ctx: DoctorContext, family: Family | None) -> Target:
    """The node's own address in the tunnel. Raises UnknownTarget."""
    known = {peer.node: peer.prefixes for peer in ctx.peers} | {ctx.node: ctx.subnets}
    if name not in known:
        raise UnknownTarget(
            f"{name!r} is no address and no node that is known here. Say a pod's address, NODE/POD, or one of: "
            f"{_listed(known)}{_why_few(ctx)}"
        )
    for prefix in known[name]:
        if family in (None, prefix.version):
            return located(tunnel_address(prefix, bool(ctx.device)), f"the tunnel of node {name}", ctx)
    wanted = f"IPv{family} subnet" if family else "subnet"
    raise UnknownTarget(f"{name} has no {wanted}; it has {_listed(known[name])}{_why_few(ctx)}")


def _why_few(ctx: DoctorContext) -> str:
    """Ends a list of nodes where those who know of them do not answer."""
    if ctx.status is not None:
        return ""
    store = f"; nor does the store: {ctx.store_error}" if ctx.store_error else ""
    return f". No tulled answers here ({ctx.status_error}){store}"


def tunnel_address(subnet: Prefix, has_device: bool) -> Address:
    """A node's own address in its subnet: the subnet's own, on the tunnel's device; without such a device (kernel
    routes) the first one, the bridge's."""
    return subnet.network_address + (0 if has_device or subnet.num_addresses == 1 else 1)


def located(address: Address, what: str, ctx: DoctorContext) -> Target:
    """By the longest subnet that holds it, as the data path looks it up."""
    candidates: list[tuple[Prefix, str, Peer | None]] = [(one, ctx.node, None) for one in ctx.subnets]
    candidates += [(one, peer.node, peer) for peer in ctx.peers for one in peer.prefixes]
    holding = [one for one in candidates if one[0].version == address.version and address in one[0]]
    if not holding:
        return Target(address, what)
    prefix, node, peer = max(holding, key=lambda one: one[0].prefixlen)
    return Target(address, what, node, prefix, peer)


def _pod(text: str, ctx: DoctorContext, family: Family | None, pods: Sequence[KeyValue]) -> Target:
    node, _, name = text.partition("/")
    if not pods:
        raise UnknownTarget(
            f"{text!r}: the store holds no records of pods ({ctx.prefix}/pods/), so they are known here by address "
            f"only. Say the pod's address, or one of the nodes: {_listed(_names(ctx))}"
        )
    for key in pods:
        for found in addresses_of(key.value, node, name):
            if family in (None, found.version):
                return located(found, f"pod {text}", ctx)
    raise UnknownTarget(
        f"{text!r}: none of the {len(pods)} pods under {ctx.prefix}/pods/ has that node and name; "
        "say its address instead"
    )


def addresses_of(value: bytes, node: str, name: str) -> list[Address]:
    """The addresses of a Pod object (core/v1) that has this name and runs on this node; empty for any other bytes."""
    try:
        pod = json.loads(value)
        if pod["metadata"]["name"] != name or pod["spec"]["nodeName"] != node:
            return []
        status = pod["status"]
        texts = [one["ip"] for one in status.get("podIPs") or [{"ip": status["podIP"]}]]
        return [ip_address(one) for one in texts]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _names(ctx: DoctorContext) -> list[str]:
    return [*(peer.node for peer in ctx.peers), ctx.node]


def _listed(names: Iterable[object], most: int = 10) -> str:
    texts = sorted(map(str, names))
    rest = f" and {len(texts) - most} more" if len(texts) > most else ""
    return (", ".join(texts[:most]) + rest) or "none"
