"""Sysctls that drop packets silently: forwarding that is off, and reverse path filters (ip-sysctl.rst)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from tulle.contracts.backend import Family
from tulle.contracts.doctor import DoctorContext, Finding
from tulle.doctor import reading
from tulle.kernel.state import Way
from tulle.kernel.sysctl import IP6_FORWARD, IP_FORWARD
from tulle.net.prefix import Address

GENERAL: Mapping[Family, str] = {4: IP_FORWARD, 6: IP6_FORWARD}
STRICT = 1
"""rp_filter: the way back to the source must lead out of the interface that the packet came in by (RFC 3704)."""

PEERS_LOOKED_AT = 64
"""Way back to so many peers; with thousands of them the first tell enough."""


class Arrival(msgspec.Struct, frozen=True):
    """Packets that this node gets: from where, by which interface."""

    link: str
    source: Address
    whose: str


def dotted(key: str) -> str:
    """As sysctl(8) takes it: dots in an interface's name become slashes."""
    return key.replace(".", "\0").replace("/", ".").replace("\0", "/")


async def forwarding(ctx: DoctorContext) -> list[Finding]:
    keys = {GENERAL[family]: family for family in ctx.families}
    if 4 in ctx.families:  # IPv6 forwards by the general key (or by an interface's own, which may be off)
        keys |= {f"net/ipv4/conf/{link}/forwarding": 4 for link in (ctx.device, ctx.link) if link}
    return judge_forwarding({key: reading.sysctl(key) for key in keys})


def judge_forwarding(values: Mapping[str, str | None]) -> list[Finding]:
    """Pure: what the sysctls are, by key."""
    if not values:
        return [
            Finding(
                severity="skipped", subject="forwarding", what="the cluster's networks are not known here"
            )
        ]
    found = []
    for key, value in values.items():
        if value is None and "/conf/all/" not in key and "/conf/" in key:
            continue  # the interface is not there, which is another check's
        if value in (None, "0"):
            found.append(
                Finding(
                    severity="error",
                    subject=dotted(key),
                    what="is 0" if value == "0" else "does not exist: this kernel lacks the family",
                    why="packets between pods and the other nodes are thrown away here, silently",
                    mend=f"sysctl -w {dotted(key)}=1",
                )
            )
    return found or [Finding(severity="ok", subject="forwarding", what="is on")]


async def reverse_path(ctx: DoctorContext) -> list[Finding]:
    """Only IPv4 has the filter."""
    from tulle.kernel.netlink import Netlink

    async with Netlink() as netlink:
        links = (await netlink.surroundings()).links
        with_ipv4 = [one.name for one in links if any(at.address.version == 4 for at in one.addresses)]
        coming = arrivals(ctx, with_ipv4)
        if not coming:
            return [
                Finding(severity="skipped", subject="rp_filter", what="no peer is known, nothing comes in")
            ]
        modes = {link: mode(link) for link in {one.link for one in coming}}
        strict = [one for one in coming if modes[one.link] == STRICT]
        back = [(one, await netlink.way(one.source)) for one in strict]
    found = judge_reverse_path(back, modes)
    either_way = judge_direct(ctx, [link for link in sorted(modes) if modes[link] == STRICT])
    return [one for one in found if one.severity != "ok"] + either_way if either_way else found


def arrivals(ctx: DoctorContext, with_ipv4: Collection[str] = ()) -> list[Arrival]:
    """Pure: peers' datagrams come in by the underlay, and their pods' packets by the tunnel. `with_ipv4`: interfaces
    with an address of that family; of a tunnel's several devices the others carry none of these packets."""
    tunnels = [one for one in ctx.devices if one in with_ipv4] or [one for one in (ctx.device,) if one]
    found = []
    for peer in ctx.peers[:PEERS_LOOKED_AT]:
        outer = [one for one in peer.endpoints if one.version == 4]
        inner = [one.network_address for one in peer.prefixes if one.version == 4]
        found += [Arrival(ctx.link, one, peer.node) for one in outer if ctx.link]
        found += [Arrival(link, one, f"pods of {peer.node}") for one in inner for link in tunnels]
    return found


def judge_direct(ctx: DoctorContext, strict: Sequence[str]) -> list[Finding]:
    """Pure: with DirectRouting, peers' pods may be heard by the underlay and by the tunnel at any time (tulle.direct).
    `strict`: those of both that filter so."""
    if not (ctx.status or {}).get("backend", {}).get("direct_peers"):
        return []
    return [
        Finding(
            severity="warning",
            subject=link,
            what="its reverse path filter is strict, and with DirectRouting pods' packets come in either way: directly "
            "or by the tunnel",
            why="the kernel drops those that come the way that this node itself does not take, silently",
            mend=f"sysctl -w {dotted(f'net/ipv4/conf/{link}/rp_filter')}=2  # loose",
        )
        for link in strict
    ]


def mode(link: str) -> int:
    """The greater of `all` and the interface's own holds."""
    values = (reading.sysctl(f"net/ipv4/conf/{name}/rp_filter") for name in ("all", link))
    return max(int(one) if one and one.isdigit() else 0 for one in values)


def judge_reverse_path(back: Sequence[tuple[Arrival, Way]], modes: Mapping[str, int]) -> list[Finding]:
    """Pure. `back`: arrivals on interfaces that filter strictly, with the way back to their source."""
    found = []
    for one, way in back:
        if way.kind != "unicast" or way.link != one.link:
            key = dotted(f"net/ipv4/conf/{one.link}/rp_filter")
            leads = f"out of {way.link}" if way.link else "nowhere"
            rule = f", by the route {way.rule}" if way.rule else ""
            found.append(
                Finding(
                    severity="error",
                    subject=one.link,
                    what=f"its reverse path filter is strict, and the way back to {one.source} ({one.whose}) leads "
                    f"{leads}{rule}",
                    why=f"the kernel drops what comes from there on {one.link}, silently",
                    mend=f"sysctl -w {key}=2  # loose; or remove the route, see leftovers",
                )
            )
    what = ", ".join(
        f"{link}: {'strict, ways back are right' if value == STRICT else 'not strict'}"
        for link, value in sorted(modes.items())
    )
    return found or [Finding(severity="ok", subject="rp_filter", what=what)]
