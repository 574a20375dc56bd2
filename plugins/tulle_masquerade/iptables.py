"""The same by the programs of iptables: a chain of our own in the table nat, and our accept rules in the table filter.

There are two kinds of iptables, and a node may have rules of both: the old one, and the one that writes nftables. Each
has its own programs; `iptables` alone is one of them. All changes of one table go in one transaction of
iptables-restore.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from tulle.doctor.iptables import parse
from tulle.doctor.ruleset import Packet
from tulle.kernel.nft_table import is_marked, marked
from tulle.net.prefix import Family
from tulle_masquerade.accepts import Accept, changes, iptables_commands
from tulle_masquerade.rules import OWNER, NatRule, iptables_words

CHAIN = "TULLE-POSTRTG"
"""Of the table nat."""
PARENT = "POSTROUTING"
FAMILIES: tuple[Family, ...] = (4, 6)

Kind = Literal["nft", "legacy"]
KINDS: tuple[Kind, ...] = ("nft", "legacy")
PROGRAMS: dict[Family, str] = {4: "iptables", 6: "ip6tables"}
TOOLS: dict[Family, Literal["iptables", "ip6tables"]] = {4: "iptables", 6: "ip6tables"}
OLD_TABLES: dict[Family, str] = {
    4: "/proc/thread-self/net/ip_tables_names",
    6: "/proc/thread-self/net/ip6_tables_names",
}
WAIT = ("-w", "5")
"""Seconds for the old one's lock, which others hold while they change something."""


class IptablesError(Exception):
    """A program refused. The text is its first line."""


class Iptables(msgspec.Struct, frozen=True):
    """One kind, by the names of its programs for IPv4; those for IPv6 begin with ip6."""

    kind: Kind
    name: str
    """ "iptables-nft", "iptables-legacy" or "iptables"."""

    async def saved(self, family: Family, table: str) -> list[str]:
        """The lines of one table; none where nobody has used it. Reading makes no table."""
        if self.kind == "legacy" and table not in old_tables(family):
            return []
        lines = (await _run([self._program(family, "save")])).splitlines()
        start = lines.index(f"*{table}") if f"*{table}" in lines else len(lines)
        end = lines.index("COMMIT", start) if "COMMIT" in lines[start:] else len(lines)
        return lines[start : end + 1]

    async def restore(self, family: Family, table: str, lines: Sequence[str]) -> None:
        text = "\n".join([f"*{table}", *lines, "COMMIT", ""])
        await _run([self._program(family, "restore"), "--noflush", *WAIT], text)

    def _program(self, family: Family, what: str) -> str:
        return f"{self.name.replace('iptables', PROGRAMS[family])}-{what}"

    # Our own chain

    async def settle(self, rules: Sequence[NatRule] | None, *, fully_random: bool = True) -> list[str]:
        """None: there is to be none. Returns a line for each family that was not so."""
        lines = []
        for family in FAMILIES:
            mine = [one for one in rules or () if one.family in (None, family)]
            wanted = any(one.family == family for one in mine)
            try:
                saved = await self.saved(family, "nat")
                orders = setting(saved, mine, fully_random=fully_random) if wanted else removal(saved)
                if orders:
                    await self.restore(family, "nat", orders)
                    what = "was not there or differed, set" if wanted else "removed"
                    lines.append(f"{PROGRAMS[family]} ({self.kind}) chain {CHAIN}: {what}")
            except IptablesError:
                if wanted:  # else it is a family that this kernel, or this node, does not have
                    raise
        return lines

    # Chains of others

    async def accept(
        self, wanted: Sequence[Accept], packets: Sequence[Packet]
    ) -> tuple[list[str], dict[str, str]]:
        """As `nftables.NftTables.accept`."""
        lines: list[str] = []
        refused: dict[str, str] = {}
        for family in FAMILIES:
            of_family = [one for one in wanted if one.network.version == family]
            try:
                saved = await self.saved(family, "filter")
            except IptablesError:
                if of_family:
                    raise
                continue
            chains = {
                (one.family, one.table, one.name): one for one in parse("\n".join(saved), TOOLS[family])
            }
            for change in changes(chains, of_family, packets if of_family else ()):
                try:
                    await self.restore(family, "filter", iptables_commands(change))
                except IptablesError as error:
                    refused[change.title] = str(error)
                else:
                    lines.append(change.line)
        return lines, refused


def setting(saved: Sequence[str], rules: Sequence[NatRule], *, fully_random: bool) -> list[str]:
    """Lines for iptables-restore that leave our chain as it is wanted, asked at the end of POSTROUTING; none where it
    is so. Pure."""
    jump = _jump()
    wanted = [" ".join(["-A", CHAIN, *iptables_words(one, fully_random=fully_random)]) for one in rules]
    there = [line for line in saved if line.startswith(f"-A {CHAIN} ")]
    jumps = _jumps(saved)
    same = f":{CHAIN}" in {line.split(" ", 1)[0] for line in saved}
    if same and [_comment(line) for line in there] == [_comment(line) for line in wanted] and len(jumps) == 1:
        return []
    unjump = [f"-D {line.removeprefix('-A ')}" for line in jumps]
    return [f":{CHAIN} - [0:0]", *unjump, *wanted, f"-A {PARENT} {jump}"]


def removal(saved: Sequence[str]) -> list[str]:
    """Lines that take our chain away; none where there is none. Pure."""
    lines = [f"-D {line.removeprefix('-A ')}" for line in _jumps(saved)]
    if any(line.startswith(f":{CHAIN} ") for line in saved):
        lines += [f"-F {CHAIN}", f"-X {CHAIN}"]
    return lines


def _jump() -> str:
    comment = marked(OWNER, CHAIN, "masquerade")
    return f'-m comment --comment "{comment}" -j {CHAIN}'


def _jumps(saved: Iterable[str]) -> list[str]:
    return [line for line in saved if line.startswith(f"-A {PARENT} ") and line.endswith(f"-j {CHAIN}")]


def _comment(line: str) -> str:
    """Ours of a rule; "" where it has none: somebody else's rule."""
    for word in line.split('"'):
        if is_marked(OWNER, word):
            return word
    return ""


def old_tables(family: Family) -> list[str]:
    """Those of the old iptables that are in use in this network namespace."""
    try:
        return Path(OLD_TABLES[family]).read_text().split()
    except OSError:  # its module is not loaded
        return []


async def kinds() -> list[Iptables]:
    """Those that are here, the one that `iptables` means first."""
    found = [Iptables(kind, f"iptables-{kind}") for kind in KINDS if shutil.which(f"iptables-{kind}-save")]
    if not shutil.which("iptables-save"):
        return found
    version = await _run(["iptables", "--version"])
    plain: Kind = "nft" if "nf_tables" in version else "legacy"
    if not any(one.kind == plain for one in found):
        found.append(Iptables(plain, "iptables"))
    return sorted(found, key=lambda one: one.kind != plain)


async def _run(argv: Sequence[str], text: str = "") -> str:
    """What it prints. Raises IptablesError."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise IptablesError(f"{argv[0]} cannot be run ({error.strerror})") from error
    try:
        output, errors = await process.communicate(text.encode())
    except asyncio.CancelledError:  # whoever goes on after us must not be overtaken by it
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        said = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
        raise IptablesError(f"{argv[0]}: {said[0] if said else f'status {process.returncode}'}")
    return output.decode(errors="replace")
