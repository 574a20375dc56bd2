"""Whether the firewall sees what pods of one node send each other over their bridge (br_netfilter).

A pod asks a service: its packet goes to the node, where kube-proxy's rules give it the address of a pod behind that
service. Where that pod is on the same bridge, its answer goes straight back over the bridge. Only with br_netfilter
does the answer pass the kernel's connection tracking, which puts the service's address back (ip-sysctl.rst,
bridge-nf-call-iptables); without, the pod that asked gets an answer from a stranger and drops it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from tulle.contracts.backend import Family
from tulle.contracts.doctor import DoctorContext, Finding
from tulle.doctor import reading
from tulle.doctor.sysctls import dotted
from tulle.kernel.underlay import LocalLink

CALLS: Mapping[Family, str] = {
    4: "net/bridge/bridge-nf-call-iptables",
    6: "net/bridge/bridge-nf-call-ip6tables",
}
"""For iptables and nftables alike, of all bridges; not there while the module is not loaded."""
OWN_CALLS: Mapping[Family, str] = {4: "nf_call_iptables", 6: "nf_call_ip6tables"}
"""The same of one bridge (ip-link(8)): one of the two being on is enough."""
BOTH: frozenset[Family] = frozenset({4, 6})
SYS_NET = Path("/sys/class/net")

NEEDING_CHAINS = {"KUBE-SERVICES": "kube-proxy", "KUBE-ROUTER-": "kube-router"}
"""Beginnings of names of iptables' chains, and whose they are."""
NEEDING_TABLES = {"kube-proxy": "kube-proxy"}
"""Names of nftables' tables."""
NEEDING_PROGRAMS = ("kube-proxy", "kube-router")
IPVS_LINK = "kube-ipvs0"
"""Holds the addresses of services where kube-proxy uses IPVS."""
NFT_FAMILIES: Mapping[str, frozenset[Family]] = {
    "ip": frozenset({4}),
    "ip6": frozenset({6}),
    "inet": BOTH,
}


class Needs(msgspec.Struct, frozen=True):
    """Who of this node must see packets between pods."""

    by: Mapping[str, Collection[Family]]
    """Program -> families that it has rules for."""
    unread: str = ""
    """Why there may be more; "" where all was seen."""


async def check(ctx: DoctorContext) -> list[Finding]:
    from tulle.kernel.netlink import Netlink

    async with Netlink() as netlink:
        links = (await netlink.surroundings()).links
    names = [one.name for one in pods_links(ctx, links) if is_bridge(one.name)]
    families = sorted({one.version for one in ctx.subnets})
    general = {family: reading.sysctl(CALLS[family]) for family in families}
    unseen = {name: unseen_families(general, own_calls(name)) for name in names}
    if not any(unseen.values()):
        return judge(unseen, general, Needs({}))
    return judge(unseen, general, await needs([one.name for one in links]))


def pods_links(ctx: DoctorContext, links: Iterable[LocalLink]) -> list[LocalLink]:
    """Interfaces with an address of this node's subnets, but for the tunnel's: those that its pods are behind. Pure."""
    return [
        link
        for link in links
        if link.name not in (ctx.device, *ctx.devices)
        and any(
            one.address.ip in subnet
            for one in link.addresses
            for subnet in ctx.subnets
            if one.address.version == subnet.version
        )
    ]


def is_bridge(name: str, root: Path = SYS_NET) -> bool:
    """Taken for one where /sys does not show this node's interfaces, as in some containers."""
    return (root / name / "bridge").is_dir() or not (root / name).exists()


def own_calls(name: str, root: Path = SYS_NET) -> set[Family]:
    """Families for which this bridge asks the firewall whatever the general setting says."""
    return {
        family
        for family, key in OWN_CALLS.items()
        if (reading.text(root / name / "bridge" / key) or "0").strip() != "0"
    }


def unseen_families(general: Mapping[Family, str | None], own: Collection[Family]) -> list[Family]:
    """Pure. `general`: the sysctls, None while the module is not loaded (then a bridge's own setting does nothing)."""
    return [
        family for family, value in general.items() if value is None or (value == "0" and family not in own)
    ]


async def needs(links: Collection[str]) -> Needs:
    """Looks at rules, processes and interfaces."""
    by: dict[str, set[Family]] = {}
    for words in reading.own_processes().values():
        name = words[0].rpartition("/")[2] if words else ""
        if name in NEEDING_PROGRAMS:
            by.setdefault(name, set()).update(BOTH)
    if IPVS_LINK in links:
        by.setdefault("kube-proxy", set()).update(BOTH)
    unread, seen = [], False
    for argv, family in READERS:
        try:
            text = await reading.output(argv)
            found = {} if text is None else in_nft(text) if family is None else in_iptables(text, family)
        except (reading.CommandFailed, ValueError) as error:
            unread.append(str(error))
            continue
        seen = seen or text is not None
        for name, families in found.items():
            by.setdefault(name, set()).update(families)
    if not seen and not unread:
        unread.append("neither nft nor iptables-save can be run here")
    return Needs(by, "; ".join(unread))


READERS: tuple[tuple[tuple[str, ...], Family | None], ...] = (
    (("nft", "-j", "list", "chains"), None),
    (("iptables-save", "-t", "nat"), 4),
    (("ip6tables-save", "-t", "nat"), 6),
)
"""With the family that a program is for; None: it tells itself. iptables over nftables is seen by both."""


def in_nft(text: str) -> dict[str, set[Family]]:
    """Pure: program -> families, from the JSON of `nft -j list chains`. Raises ValueError."""
    found: dict[str, set[Family]] = {}
    listed = json.loads(text)
    objects = listed.get("nftables") if isinstance(listed, dict) else None
    if not isinstance(objects, list):
        raise ValueError("nft -j list chains: its answer has no list of chains")
    for one in objects:
        chain = one.get("chain") if isinstance(one, dict) else None
        if isinstance(chain, dict):
            program = NEEDING_TABLES.get(str(chain.get("table"))) or _whose(str(chain.get("name")))
            if program:
                families = NFT_FAMILIES.get(str(chain.get("family")), frozenset())
                found.setdefault(program, set()).update(families)
    return found


def in_iptables(text: str, family: Family) -> dict[str, set[Family]]:
    """Pure: the same from what iptables-save prints (":CHAIN POLICY [packets:bytes]")."""
    chains = [line[1:].split(" ", 1)[0] for line in text.splitlines() if line.startswith(":")]
    return {program: {family} for program in map(_whose, chains) if program}


def _whose(chain: str) -> str:
    return next((whose for begin, whose in NEEDING_CHAINS.items() if chain.startswith(begin)), "")


def judge(
    unseen: Mapping[str, Collection[Family]], general: Mapping[Family, str | None], needs: Needs
) -> list[Finding]:
    """Pure. `unseen`: bridges of pods with the families whose packets the firewall does not see there."""
    if not unseen:
        what = "this node has no bridge of pods (yet)"
        return [Finding(severity="skipped", subject="br_netfilter", what=what)]
    found = []
    for bridge, families in unseen.items():
        wanted = {name: [one for one in families if one in theirs] for name, theirs in needs.by.items()}
        programs = sorted(name for name, hit in wanted.items() if hit)
        lacking = sorted({family for hit in wanted.values() for family in hit})
        if programs:
            found.append(_blind(bridge, lacking, general, programs))
        elif families and needs.unread:
            found.append(_unknown(bridge, families, needs.unread))
        else:
            found.append(_right(bridge, families))
    return found


def _right(bridge: str, families: Collection[Family]) -> Finding:
    seen = "the firewall sees what pods send each other over it"
    unneeded = (
        f"the firewall does not see what pods send each other over it ({_named(families)}), and nothing here needs "
        "that: there are no rules of kube-proxy's"
    )
    return Finding(severity="ok", subject=bridge, what=unneeded if families else seen)


def _unknown(bridge: str, families: Collection[Family], unread: str) -> Finding:
    return Finding(
        severity="skipped",
        subject=bridge,
        what=f"the firewall does not see what pods send each other over it ({_named(families)}); whether kube-proxy "
        f"has rules here, which need that, is not known: {unread}",
        mend="sudo tulle doctor --check br-netfilter",
    )


def _blind(
    bridge: str, lacking: Collection[Family], general: Mapping[Family, str | None], programs: Collection[str]
) -> Finding:
    loaded = all(general[family] is not None for family in lacking)
    keys = [dotted(CALLS[family]) for family in lacking]
    cause = (
        f"{' and '.join(keys)} {'is' if len(keys) == 1 else 'are'} 0"
        if loaded
        else "br_netfilter is not loaded"
    )
    return Finding(
        severity="warning",
        subject=bridge,
        what=f"{cause}: packets from pod to pod of this node ({_named(lacking)}) pass the bridge unseen by the rules "
        f"of {' and '.join(programs)}",
        why="a pod that asks a service, and is given a pod of this same node, gets its answer from an address that it "
        "did not ask, and drops it: services (DNS among them) fail by chance; network policies do not hold between "
        "these pods",
        mend=f"sysctl -w {' '.join(f'{key}=1' for key in keys)}  # and into /etc/sysctl.d, for the next boot"
        if loaded
        else "modprobe br_netfilter  # and the word br_netfilter into /etc/modules-load.d/, for the next boot",
    )


def _named(families: Collection[Family]) -> str:
    return " and ".join(f"IPv{family}" for family in sorted(families))
