"""Nodes of one cluster whose pods' MTUs differ: compared by the member records, in which each node tells its own."""

from __future__ import annotations

from collections.abc import Mapping

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.lease.codec import decode_member
from tulle.lease.model import Member

NAMED = 8
"""Nodes in one finding; with thousands of them the first tell enough."""


def told(ctx: DoctorContext) -> dict[str, int]:
    """Pure: MTU by name, of the peers that tell one. Those of flannel and of an older tulle do not."""
    found = {}
    for name in dict.fromkeys(peer.node for peer in ctx.peers):
        kv = ctx.records.get(f"{ctx.prefix}/members/{name}")
        member = decode_member(kv) if kv is not None else None
        if isinstance(member, Member) and member.mtu:
            found[name] = member.mtu
    return found


def judge(ctx: DoctorContext, own: int | None, peers: Mapping[str, int], cost: int) -> list[Finding]:
    """Pure. `own`: of this node's pods, None where there is no tunnel. `cost`: of encapsulation, in bytes. One finding
    for each other MTU."""
    if own is None or not peers:
        return []
    others: dict[int, list[str]] = {}
    for name, mtu in sorted(peers.items()):
        others.setdefault(mtu, []).append(name)
    like_us = len(others.pop(own, []))
    if not others:
        what = f"{like_us} other nodes have {own}, too" if like_us > 1 else f"the other node has {own}, too"
        return [Finding(severity="ok", subject="peers", what=what)]
    return [
        _differs(ctx, own, mtu, names, cost, odd=len(names) <= like_us)
        for mtu, names in sorted(others.items())
    ]


def _differs(ctx: DoctorContext, own: int, theirs: int, names: list[str], cost: int, odd: bool) -> Finding:
    """`odd`: it is they who differ from the others, not we."""
    who = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    smaller, larger = ("this node", who) if own < theirs else (who, "this node")
    link = ctx.link or "eth0"
    if odd:
        mend = (
            f"ip link set dev {link} mtu {own + cost}  # on {who}, whose interface may have another name, and only if "
            "the network there carries it; tulled follows"
        )
    else:
        mend = (
            f"ip link set dev {link} mtu {theirs + cost}  # on this node, and only if the network here carries it; "
            f"tulled follows. Else the same on {who} with {own + cost}"
        )
    return Finding(
        severity="warning",
        subject=who,
        what=f"pods there have MTU {theirs}, pods of this node {own}",
        why=f"packets of more than {min(own, theirs)} bytes from {larger} to {smaller} are dropped on their way, or "
        "answered with ICMP too big: TCP between pods agrees on the smaller one, but UDP, and what hides ICMP from its "
        "sender, hangs",
        mend=f"{mend}; pods that run already keep theirs: start them anew",
    )
