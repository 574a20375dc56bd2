"""A firewall chain that drops what the cluster needs: pods' packets through the tunnel, and the backend's datagrams.

An accept of nftables ends its own base chain only, so one dropping chain of anybody's is enough: each base chain is
asked by itself, with the packets that a node must let pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.doctor import iptables, nft, reading
from tulle.doctor.ruleset import Chain, Chains, Outcome, Packet, outcome
from tulle.net.prefix import Prefix

POD = 2
"""A pod's address in its subnet, for a packet of an example: 0 is the tunnel's, 1 the bridge's."""


class Needed(msgspec.Struct, frozen=True):
    """A packet that must pass a hook."""

    hook: str
    what: str
    packet: Packet


async def check(ctx: DoctorContext) -> list[Finding]:
    needed = needs(ctx)
    if not needed:
        what = "nothing is known of the cluster's network here"
        return [Finding(severity="skipped", subject="firewall", what=what)]
    chains: dict[tuple[str, str, str], Chain] = {}
    seen: list[str] = []
    unread: list[Finding] = []
    for argv, parse in READERS:
        try:
            text = await reading.output(argv)
            found = parse(text) if text is not None else []
        except (reading.CommandFailed, ValueError) as error:
            unread.append(_unread(argv[0], error))
            continue
        if text is not None:
            seen.append(argv[0])
        chains |= {(one.family, one.table, one.name): one for one in found}
    if not seen:
        what = "neither nft nor iptables-save can be run here, so its rules are not seen"
        return unread or [
            Finding(severity="skipped", subject="firewall", what=what, mend="apt install nftables")
        ]
    return unread + judge(chains, needed, ctx, seen)


READERS = (
    (("nft", "-j", "list", "ruleset"), nft.parse),
    (("iptables-save", "-t", "filter"), lambda text: iptables.parse(text, "iptables")),
    (("ip6tables-save", "-t", "filter"), lambda text: iptables.parse(text, "ip6tables")),
)
"""The later takes the place of the earlier, chain by chain."""


def needs(ctx: DoctorContext) -> list[Needed]:
    """Pure: an example of each kind of packet."""
    found: list[Needed] = []
    tunnel = ctx.device or ctx.link
    for mine in ctx.subnets:
        others = [one for peer in ctx.peers for one in peer.prefixes if one.version == mine.version]
        there = _pod(others[0]) if others else _far(mine, ctx.networks)
        both = {"family": str(mine.version), "proto": "tcp", "state": "new"}
        out: Packet = {**both, "saddr": _pod(mine), "daddr": there, "oif": tunnel}
        back: Packet = {**both, "saddr": there, "daddr": _pod(mine), "iif": tunnel}
        found.append(Needed("forward", f"packets of this node's pods into {tunnel}", out))
        found.append(Needed("forward", f"packets from {tunnel} to this node's pods", back))
    outer = {one.version for peer in ctx.peers for one in peer.endpoints[:1]} or set(ctx.families)
    for port in _ports(ctx) if ctx.link else ():
        for family in sorted(outer):
            datagram = {"family": str(family), "proto": "udp", "dport": str(port), "state": "new"}
            what = f"the backend's datagrams (port {port}/udp)"
            found.append(Needed("input", what, {**datagram, "iif": ctx.link}))
            found.append(Needed("output", what, {**datagram, "oif": ctx.link}))
    return found


def _ports(ctx: DoctorContext) -> tuple[int, ...]:
    return ctx.ports or tuple(filter(None, [ctx.port]))


def _pod(subnet: Prefix) -> str:
    return str(subnet[min(POD, subnet.num_addresses - 1)])


def _far(mine: Prefix, networks: Iterable[Prefix]) -> str:
    """An address of another node's pod, where no other node is known: the network's last."""
    return next((str(one[-2]) for one in networks if one.version == mine.version), _pod(mine))


def judge(chains: Chains, needed: Sequence[Needed], ctx: DoctorContext, seen: Sequence[str]) -> list[Finding]:
    """Pure. One finding for each chain and hook, however many kinds of packets it drops."""
    dropped: dict[tuple[str, str, str], list[tuple[Needed, Outcome]]] = {}
    for key, chain in chains.items():
        for one in needed:
            if chain.hook != one.hook or not _concerns(chain, one.packet):
                continue
            ended = outcome(chains, chain, one.packet)
            if ended.verdict == "drop":
                dropped.setdefault(key, []).append((one, ended))
    if not dropped:
        what = f"no chain drops the cluster's packets (read with {', '.join(seen)})"
        return [Finding(severity="ok", subject="firewall", what=what)]
    return [_finding(chains[key], ones, ctx) for key, ones in dropped.items()]


def _concerns(chain: Chain, packet: Packet) -> bool:
    return chain.family == "inet" or chain.family == ("ip" if packet["family"] == "4" else "ip6")


def _finding(chain: Chain, dropped: Sequence[tuple[Needed, Outcome]], ctx: DoctorContext) -> Finding:
    sure = any(ended.sure for _, ended in dropped)
    whats = " and ".join(dict.fromkeys(one.what for one, _ in dropped))
    rules = "; ".join(dict.fromkeys(ended.because for _, ended in dropped))
    doubt = "" if sure else ", unless a rule before it that is not understood here lets them pass"
    families = sorted({one.packet["family"] for one, _ in dropped})
    hook = dropped[0][0].hook
    return Finding(
        severity="error" if sure else "warning",
        subject=f"chain {chain.title}",
        what=f"drops {whats} ({rules}){doubt}",
        why="an accept elsewhere does not help: each chain decides for itself, and a drop is final",
        mend="; ".join(_mends(chain, hook, families, ctx)) + "  # and into the firewall's own configuration",
    )


def _mends(chain: Chain, hook: str, families: Sequence[str], ctx: DoctorContext) -> list[str]:
    """Commands that put an accepting rule before all others of that chain."""
    if chain.tool == "nft":
        insert = f"nft insert rule {chain.family} {chain.table} {chain.name}"
        if hook != "forward":
            return [f"{insert} udp dport {port} accept" for port in _ports(ctx)]
        words = {4: "ip", 6: "ip6"}
        return [
            f"{insert} {words[one.version]} {end} {one} accept"
            for one in ctx.networks
            if str(one.version) in families
            for end in ("saddr", "daddr")
        ]
    insert = f"{chain.tool} -I {chain.name}"
    if hook != "forward":
        return [f"{insert} -p udp --dport {port} -j ACCEPT" for port in _ports(ctx)]
    return [
        f"{insert} {end} {one} -j ACCEPT"
        for one in ctx.networks
        if str(one.version) in families
        for end in ("-s", "-d")
    ]


def _unread(program: str, error: Exception) -> Finding:
    return Finding(
        severity="skipped",
        subject=program,
        what=f"its rules cannot be read: {error}",
        mend="sudo tulle doctor --check firewall",
    )
