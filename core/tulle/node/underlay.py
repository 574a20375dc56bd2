"""The underlay: found at the start, followed while the node runs.

An address that is lost stays in use until another takes its place, since most come back: a link that flaps, a DHCP
client that restarts. What changes is followed: the backend learns it first, then the other nodes do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tulle.config.daemon import DaemonConfig
from tulle.contracts.backend import Backend, Family, Problem, Underlay
from tulle.kernel.netlink import Netlink
from tulle.kernel.underlay import NoUnderlay, Wish, choose, outside
from tulle.net.prefix import Address
from tulle.node.context import Context
from tulle.node.network import Network
from tulle.node.state import NodeState

log = logging.getLogger("tulle.node")

CHECK_S = 30.0
"""How often it is looked at where the kernel tells of no change."""
RETRY_S = 2.0
"""After a change that could not be carried out."""


async def find(config: DaemonConfig, netlink: Netlink, network: Network) -> Underlay:
    """An interface with the cluster's families; where there is none, IPv4 pods may travel over IPv6 and the other way
    round. Raises NoUnderlay."""
    families: Sequence[Family] = [family.family for family in network.config.families]
    seen = outside(await netlink.surroundings(config.can_reach), network.config.networks)
    wish = Wish(config.interfaces, config.interface_patterns, config.can_reach)
    try:
        return choose(wish, config.public, families, seen)
    except NoUnderlay as error:
        with contextlib.suppress(NoUnderlay):
            return choose(wish, config.public, (), seen)
        raise error


def lost(last: Underlay, found: Underlay | None) -> list[Family]:
    """The families that had an address and have none now."""
    return [family for family in last.public if found is None or family not in found.public]


class Follower:
    """`run` is its task; `wake` tells it that something changed in the kernel's network."""

    def __init__(
        self,
        node: NodeState,
        look: Callable[[], Awaitable[Underlay]],
        tell: Callable[[bool], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`look` is `find`; `tell(True)` is called when other nodes must learn a new address, `tell(False)` when only
        this node is concerned (the MTU)."""
        self._node = node
        self._look = look
        self._tell = tell
        self._clock = clock
        self._changed = asyncio.Event()
        self._lost_at = 0.0
        self._pending = False
        self._told: Mapping[Family, Address] | None = None
        """What the others know of us; None: what the underlay was at the start."""

    def wake(self) -> None:
        self._changed.set()

    async def run(self, backend: Backend, context: Context) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self._pending else CHECK_S):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.look(backend, context)
            except (OSError, TimeoutError) as error:
                self._pending = True
                self._problem("underlay-not-followed", f"{error} (tried again every {RETRY_S:g} s)")

    async def look(self, backend: Backend, context: Context) -> None:
        """Look once. Raises OSError, TimeoutError where the backend cannot follow; then look again."""
        node, last = self._node, self._node.underlay
        assert last is not None
        self._told = last.public if self._told is None else self._told
        reason, found = "", None
        try:
            found = await self._look()
        except NoUnderlay as error:
            reason = str(error)
        gone = lost(last, found)
        if gone:
            self._problem("underlay-lost", _lost_text(last, gone, reason))
            return
        assert found is not None
        if found != last or self._pending:
            self._pending = True
            log.info("underlay-changed link=%s mtu=%d to=%s", found.link, found.mtu, _addresses(found))
            node.underlay = context.underlay = found
            await backend.start(context)
            node.report = await backend.reconcile(node.peers)
            await self._tell(found.public != self._told)
            self._told, self._pending = found.public, False
        self._mended(found)

    def _problem(self, code: str, message: str) -> None:
        node = self._node
        if node.underlay_problem is None:
            self._lost_at = self._clock()
        if node.underlay_problem is None or node.underlay_problem.message != message:
            log.warning("%s %s", code, message)
        node.underlay_problem = Problem(code, "underlay", message)

    def _mended(self, found: Underlay) -> None:
        if self._node.underlay_problem is None:
            return
        self._node.underlay_problem = None
        away_s = self._clock() - self._lost_at
        line = f"underlay: {found.link} has {_addresses(found)} again, after {away_s:.1f} s"
        log.info("underlay-back %s", line)
        self._node.keeper.remember([line])


def _addresses(underlay: Underlay) -> str:
    return ", ".join(map(str, underlay.public.values()))


def _lost_text(last: Underlay, gone: Sequence[Family], reason: str) -> str:
    addresses = ", ".join(str(last.addresses[family]) for family in gone)
    because = f" ({reason})" if reason else ""
    return (
        f"{last.link} has lost {addresses}{because}: packets of other nodes cannot arrive there; put it back "
        f"(ip address add), or restart tulled to do without"
    )
