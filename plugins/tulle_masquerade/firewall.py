"""What the node's firewall has of ours, whichever tool writes it: chosen once, then made so as often as it is asked."""

from __future__ import annotations

from typing import Literal

import msgspec

from tulle.contracts.report import Problem
from tulle.doctor.ruleset import Packet
from tulle.kernel.nft import Nft, NftError, NftMissing
from tulle_masquerade.accepts import Accept
from tulle_masquerade.iptables import FAMILIES, Iptables, IptablesError, kinds, old_tables
from tulle_masquerade.nftables import NftTables
from tulle_masquerade.rules import NatRule, nft_table

Tool = Literal["nft", "iptables", ""]

MEND = "see what that tool says (`nft list ruleset`, `iptables-save`), or install the other: apt install {}"


class Wanted(msgspec.Struct, frozen=True):
    """All that is to be there."""

    nat: tuple[NatRule, ...] | None = None
    """None: nothing is masqueraded."""
    fully_random: bool = True
    accepts: tuple[Accept, ...] = ()
    packets: tuple[Packet, ...] = ()
    """Those that no chain may drop."""


class Settled(msgspec.Struct, frozen=True):
    """What one pass did."""

    lines: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    nat_error: str = ""
    """Why what is to be masqueraded is not; "" where it is."""


class Chosen(msgspec.Struct, frozen=True):
    """Which tool writes the masquerade rules."""

    tool: Tool
    because: str


def choose(enable_nftables: bool | None, nft_fault: str, iptables: bool) -> Chosen:
    """Pure. `nft_fault`: why nftables cannot be used, "" where it can; `iptables`: its programs are here."""
    if enable_nftables is False and iptables:
        return Chosen("iptables", "EnableNFTables is false in the network config")
    if not nft_fault:
        missing = (
            " (EnableNFTables is false, but there is no iptables here)" if enable_nftables is False else ""
        )
        return Chosen("nft", f"nftables can be used{missing}")
    if iptables:
        return Chosen("iptables", f"nftables cannot be used: {nft_fault}")
    return Chosen("", f"nftables cannot be used ({nft_fault}), and there is no iptables either")


class Firewall:
    """Callers take turns."""

    def __init__(self, enable_nftables: bool | None = None) -> None:
        self._enable_nftables = enable_nftables
        self._nft = Nft()
        self._tables: NftTables | None = None
        self._kinds: list[Iptables] = []
        self._swept = False
        self.chosen = Chosen("", "not looked at yet")

    async def open(self) -> None:
        """Look what is there. Raises nothing: what is missing is `chosen`'s to say."""
        fault = ""
        try:
            await self._nft.tables()
            self._tables = NftTables(self._nft)
        except (NftMissing, NftError) as error:
            fault = str(error)
        try:
            self._kinds = await kinds()
        except IptablesError:
            self._kinds = []
        self.chosen = choose(self._enable_nftables, fault, bool(self._kinds))

    def close(self) -> None:
        self._nft.close()

    @property
    def may_meet_old_iptables(self) -> bool:
        """Whose changes no event tells."""
        return any(one.kind == "legacy" for one in self._kinds)

    @property
    def meets_old_iptables(self) -> bool:
        """It has tables here now."""
        return self.may_meet_old_iptables and any(map(old_tables, FAMILIES))

    async def settle(self, wanted: Wanted) -> Settled:
        """Make it so. The first time also what an earlier tulled made with the other tool is taken away."""
        lines: list[str] = []
        problems: list[Problem] = []
        nat_error = ""
        try:
            lines += await self._sweep(wanted)
            lines += await self._nat(wanted)
        except (NftMissing, NftError, IptablesError) as error:
            nat_error = str(error)
        if wanted.nat is not None and not self.chosen.tool:
            nat_error = self.chosen.because
        if nat_error:
            other = "libnftables1" if self.chosen.tool == "iptables" else "iptables"
            message = f"its rules cannot be set ({nat_error}); {MEND.format(other)}"
            problems.append(Problem("masquerade-refused", "masquerade", message))
        more, refused = await self._accepts(wanted)
        problems += [_not_accepted(chain, why) for chain, why in refused.items()]
        return Settled((*lines, *more), tuple(problems), nat_error if wanted.nat is not None else "")

    async def _nat(self, wanted: Wanted) -> list[str]:
        if self.chosen.tool == "iptables":
            return await self._kinds[0].settle(wanted.nat, fully_random=wanted.fully_random)
        if self._tables is None:
            return []
        table = None if wanted.nat is None else nft_table(wanted.nat, fully_random=wanted.fully_random)
        return await self._tables.settle(table)

    async def _sweep(self, wanted: Wanted) -> list[str]:
        """What another tool than the chosen one has of ours."""
        if self._swept:
            return []
        lines: list[str] = []
        used = self._kinds[:1] if self.chosen.tool == "iptables" else []
        if self._tables is not None and used:
            lines += await self._tables.settle(None)
        for one in self._kinds:
            if one not in used:
                lines += await one.settle(None)
            if not wanted.accepts and one not in self._accepting():
                # In a chain that iptables has saved and restored, nftables no longer shows our comments.
                lines += (await one.accept((), ()))[0]
        self._swept = True
        return lines

    def _accepting(self) -> list[NftTables | Iptables]:
        """nftables for all its chains, iptables for what that does not see."""
        tables: list[NftTables | Iptables] = [self._tables] if self._tables is not None else []
        return tables + [one for one in self._kinds if one.kind == "legacy" or self._tables is None]

    async def _accepts(self, wanted: Wanted) -> tuple[list[str], dict[str, str]]:
        lines: list[str] = []
        refused: dict[str, str] = {}
        for party in self._accepting():
            try:
                more, why = await party.accept(wanted.accepts, wanted.packets)
            except (NftMissing, NftError, IptablesError) as error:
                refused["the forward hook"] = str(error)
            else:
                lines += more
                refused |= why
        return lines, refused

    async def take_away(self) -> list[str]:
        """All of ours, of every tool that is here."""
        lines: list[str] = []
        if self._tables is not None:
            lines += await self._tables.settle(None)
            lines += (await self._tables.accept((), ()))[0]
        for one in self._kinds:
            lines += await one.settle(None)
            lines += (await one.accept((), ()))[0]
        return lines


def _not_accepted(chain: str, why: str) -> Problem:
    message = (
        f"{chain} drops what pods send, and an accept rule at its head was refused ({why}); accept the "
        "cluster's networks in the configuration of whoever made that chain (`tulle doctor` has the commands)"
    )
    return Problem("forward-dropped", chain, message)
