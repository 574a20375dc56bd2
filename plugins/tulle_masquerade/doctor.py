"""`tulle doctor`, check "masquerade": our rules where they are asked for, none where no tulled keeps them, and what
flannel left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tulle.contracts.backend import JsonObject
from tulle.contracts.doctor import DoctorContext, Finding
from tulle.kernel.nft import Nft, NftError, NftMissing
from tulle_masquerade.iptables import CHAIN, FAMILIES, PARENT, PROGRAMS, IptablesError, kinds
from tulle_masquerade.rules import OWNER, TABLE_FAMILY

FLANNELS_CHAINS = {"FLANNEL-POSTRTG": "nat", "FLANNEL-FWD": "filter"}
"""And their tables, of iptables."""
FLANNELS_PARENTS = {"FLANNEL-POSTRTG": PARENT, "FLANNEL-FWD": "FORWARD"}
FLANNELS_TABLES = (("ip", "flannel-ipv4"), ("ip6", "flannel-ipv6"))
"""Of nftables."""


class Seen(msgspec.Struct, frozen=True):
    """What there is of tulle's and flannel's, whoever runs."""

    tables: frozenset[tuple[str, str]] = frozenset()
    """nftables' tables: family and name."""
    saved: Mapping[str, Sequence[str]] = {}
    """By the name of the program without "-save" ("iptables-nft"): its lines, of both tables."""


async def check(ctx: DoctorContext) -> list[Finding]:
    unread: list[Finding] = []
    nft = Nft()
    tables: frozenset[tuple[str, str]] = frozenset()
    try:
        tables = frozenset(await nft.tables())
    except (NftMissing, NftError) as error:
        unread.append(_unread("nftables", error))
    finally:
        nft.close()
    saved: dict[str, list[str]] = {}
    try:
        for one in await kinds():
            for family in FAMILIES:
                name = one.name.replace("iptables", PROGRAMS[family])
                saved[name] = [*await one.saved(family, "nat"), *await one.saved(family, "filter")]
    except IptablesError as error:
        unread.append(_unread("iptables", error))
    found = judge(Seen(tables, saved), ctx.status)
    return [*found, *unread] if found else unread or [_ok(ctx.status)]


def judge(seen: Seen, status: JsonObject | None) -> list[Finding]:
    """Pure. `status`: tulled's, None where none answers."""
    found = list(_flannels(seen))
    mine = _mine(status)
    if status is None:
        found += _orphans(seen)
    elif mine.get("masquerading") and not _ours(seen):
        found.append(
            Finding(
                severity="error",
                subject="masquerade",
                what="tulled is to masquerade, and none of its rules are there",
                why="pods reach nobody outside of the cluster",
                mend="systemctl restart tulled  # and `tulle status` says why they cannot be set",
            )
        )
    refused = [text for text in mine.get("refused", ()) if isinstance(text, str)]
    found += [
        Finding(
            severity="error",
            subject="masquerade",
            what=text,
            why="packets of pods are lost here",
            mend="tulle doctor --check firewall  # has the commands for the chain",
        )
        for text in refused
    ]
    if status is not None and mine.get("forward_rules") is False:
        found.append(
            Finding(
                severity="ok",
                subject="forward",
                what="--iptables-forward-rules=false: no accept rule is put into chains that drop",
            )
        )
    return found


def _flannels(seen: Seen) -> Iterable[Finding]:
    why = (
        "its rules are asked beside tulle's: they masquerade by the network and subnet that flannel had here, so that "
        "pods' packets can leave under a wrong address"
    )
    for family, name in FLANNELS_TABLES:
        if (family, name) in seen.tables:
            yield _leftover(f"table {family} {name}", f"nft delete table {family} {name}", why)
    for program, lines in seen.saved.items():
        for chain, table in FLANNELS_CHAINS.items():
            if any(line.startswith(f":{chain} ") for line in lines):
                yield _leftover(
                    f"{program} chain {chain}", "; ".join(_removal(program, table, chain, lines)), why
                )


def _removal(program: str, table: str, chain: str, lines: Sequence[str]) -> list[str]:
    begin = f"-A {FLANNELS_PARENTS[chain]} "
    jumps = [line for line in lines if line.startswith(begin) and line.endswith(f"-j {chain}")]
    orders = [f"-D {line.removeprefix('-A ')}" for line in jumps] + [f"-F {chain}", f"-X {chain}"]
    return [f"{program} -t {table} {order}" for order in orders]


def _leftover(subject: str, mend: str, why: str) -> Finding:
    what = "it is flannel's, left behind; it goes with a restart of the machine, or by these commands"
    return Finding(severity="warning", subject=subject, what=what, why=why, mend=mend)


def _orphans(seen: Seen) -> list[Finding]:
    names = _ours(seen)
    if not names:
        return []
    return [
        Finding(
            severity="warning",
            subject=", ".join(names),
            what="rules of a tulled that does not answer",
            why="they go on masquerading as it was then; nobody follows what changes",
            mend="tulle down  # or go on with it: systemctl start tulled",
        )
    ]


def _ours(seen: Seen) -> list[str]:
    names = [f"table {TABLE_FAMILY} {OWNER}"] if (TABLE_FAMILY, OWNER) in seen.tables else []
    return names + [
        f"{program} chain {CHAIN}"
        for program, lines in seen.saved.items()
        if any(line.startswith(f":{CHAIN} ") for line in lines)
    ]


def _mine(status: JsonObject | None) -> JsonObject:
    """What our component says of itself."""
    components = (status or {}).get("components")
    mine = components.get("masquerade") if isinstance(components, dict) else None
    return mine if isinstance(mine, dict) else {}


def _ok(status: JsonObject | None) -> Finding:
    mine = _mine(status)
    what = "nothing of tulle's or flannel's is left" if status is None else "nothing of flannel's is left"
    if mine.get("masquerading"):
        what = f"pods are masqueraded, by {mine.get('tool')}, and {what}"
    return Finding(severity="ok", subject="masquerade", what=what)


def _unread(tool: str, error: Exception) -> Finding:
    return Finding(
        severity="skipped",
        subject=tool,
        what=f"its rules cannot be read: {error}",
        mend="sudo tulle doctor --check masquerade",
    )
