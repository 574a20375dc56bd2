"""Our table by libnftables, and our accept rules in other chains of nftables (those of iptables-nft among them)."""

from __future__ import annotations

from collections.abc import Sequence

from tulle.doctor import nft as listing
from tulle.doctor.ruleset import Chain, Packet
from tulle.kernel.nft import Nft, NftError, Object
from tulle.kernel.nft_table import Table, difference, removing, replacing
from tulle_masquerade.accepts import HOOK, USERS_CHAIN, Accept, Key, changes, nft_commands
from tulle_masquerade.rules import OWNER, TABLE_FAMILY

MAX_CHAINS = 200
"""That are followed from the forward hook. What lies behind them is not judged."""
SETTLE_TRIES = 3
"""Another may change a chain between our look and our command."""

TITLE = f"table {TABLE_FAMILY} {OWNER}"


class NftTables:
    """Each method makes things as they are to be and returns a line for each that was not. Raises NftMissing,
    NftError."""

    def __init__(self, nft: Nft) -> None:
        self._nft = nft

    async def settle(self, table: Table | None) -> list[str]:
        """Our own table; None: there is to be none."""
        there = (TABLE_FAMILY, OWNER) in await self._nft.tables()
        if table is None:
            if there:
                await self._nft.apply("\n".join([*removing(TABLE_FAMILY, OWNER), ""]))
            return [f"{TITLE}: removed"] if there else []
        wrong = "was not there"
        if there:
            wrong = difference(table, await self._nft.listed(f"table {table.title}"))
        if wrong:
            await self._nft.apply(replacing(table))
        return [f"{TITLE}: {wrong}, set"] if wrong else []

    async def accept(
        self, wanted: Sequence[Accept], packets: Sequence[Packet]
    ) -> tuple[list[str], dict[str, str]]:
        """Lines, and by chain why its change was refused. Nothing wanted: ours are removed."""
        for last in [False] * (SETTLE_TRIES - 1) + [True]:
            chains = await self._forward_chains(follow=bool(wanted))
            lines: list[str] = []
            refused: dict[str, str] = {}
            for change in changes(chains, wanted, packets if wanted else ()):
                try:
                    await self._nft.apply(nft_commands(change))
                except NftError as error:
                    refused[change.title] = str(error)
                else:
                    lines.append(change.line)
            if last or not refused or lines:
                break
        return lines, refused

    async def _forward_chains(self, *, follow: bool) -> dict[Key, Chain]:
        """With their rules: the base chains of the forward hook and the users' chains, which are all that can hold
        rules of ours; with `follow` those too that they lead to."""
        heads = {(one.family, one.table, one.name): one for one in await self._heads()}
        wanted = [key for key, one in heads.items() if one.hook == HOOK or one.name == USERS_CHAIN]
        found: dict[Key, Chain] = {}
        while wanted and len(found) < MAX_CHAINS:
            key = wanted.pop(0)
            if key in found or key not in heads or key[:2] == (TABLE_FAMILY, OWNER):
                continue
            for chain in await self._listed(key):
                found[key] = chain
                wanted += [(*key[:2], rule.target) for rule in chain.rules if rule.target and follow]
        return found

    async def _heads(self) -> list[Chain]:
        """All chains, without rules."""
        return _chains(await self._nft.listed("chains"))

    async def _listed(self, key: Key) -> list[Chain]:
        """One chain, or none where it has gone meanwhile."""
        try:
            return _chains(await self._nft.listed("chain {} {} {}".format(*key)))
        except NftError as error:
            if error.gone:
                return []
            raise


def _chains(listed: Sequence[Object]) -> list[Chain]:
    try:
        return listing.chains(listed)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise NftError(f"nft's list has another shape than it should have ({error!r})") from error
