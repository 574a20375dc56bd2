"""Keeps links, addresses, routes and entries as they are wanted: when that changes, when the kernel says that something
changed, and every 30 s for what no event told.

Several parties want things (the node itself, the data plane, a backend); each states its whole part.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import chain

import msgspec

from tulle.contracts.backend import Problem, Report
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import Wanted

log = logging.getLogger("tulle.kernel")

PASS_S = 30.0
KEPT_MENDS = 50
REST = 3.0
"""After a pass of t seconds the next one waits REST * t: with thousands of entries, whoever changes routes all the time
costs a quarter of a processor, and no more."""
LONGEST_REST_S = 1.0


class Mend(msgspec.Struct, frozen=True):
    """Something that was not as wanted and was put right."""

    at: float
    """Unix time."""
    line: str


class Keeper:
    """`run` is its task; `want` and `settle` may be called at any time."""

    def __init__(self, netlink: Netlink, *, wall: Callable[[], float] = time.time) -> None:
        self.mends: deque[Mend] = deque(maxlen=KEPT_MENDS)
        self.mend_count = 0
        self.problems: tuple[Problem, ...] = ()
        self.before_pass: list[Callable[[], Awaitable[list[str]]]] = []
        """Called before each pass: whoever must make links first. They return lines of what they did."""
        self._netlink = netlink
        self._wall = wall
        self._parts: dict[str, Wanted] = {}
        self._turn = asyncio.Lock()
        self._bell = asyncio.Event()
        self._settled: set[str] = set()
        self._disturbed = True
        """Since the last pass."""

    def want(self, party: str, wanted: Wanted) -> None:
        """A party's whole part; it is applied by the next pass."""
        self._parts[party] = wanted
        self._settled.discard(party)
        self._bell.set()

    def wake(self) -> None:
        """Something may have changed in the kernel."""
        self._disturbed = True
        self._bell.set()

    def remember(self, lines: Iterable[str]) -> None:
        """What was mended, for the status; other parties mend things that are not the kernel's."""
        for line in lines:
            self.mend_count += 1
            self.mends.append(Mend(self._wall(), line))

    async def settle(self, *, trusting: bool = False) -> Report:
        """One pass now. What it changes for parts that were settled before is a mend, and is remembered. `trusting`:
        where nothing woke us since the last pass, what that saw is taken for what is there. Our own change wakes us to
        look again."""
        async with self._turn:
            self._bell.clear()
            trusting, self._disturbed = trusting and not self._disturbed, False
            mending = set(self._parts) <= self._settled
            lines = [line for make in self.before_pass for line in await make()]
            report = await self._netlink.reconcile(self._all(), trusting=trusting)
            lines += report.changed
            for line in lines:
                log.info("%s %s", "kernel-mended" if mending else "kernel-set", line)
            if mending:
                self.remember(lines)
            for problem in report.problems:
                if problem not in self.problems:
                    log.warning("kernel-problem code=%s %s", problem.code, problem.message)
            log.debug("kernel-pass changed=%d problems=%d", len(lines), len(report.problems))
            self.problems = report.problems
            self._settled = set(self._parts)
            return report

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(PASS_S):
                    await self._bell.wait()
            except TimeoutError:
                pass
            begun = time.monotonic()
            try:
                await self.settle()
                await asyncio.sleep(min(REST * (time.monotonic() - begun), LONGEST_REST_S))
            except OSError as error:
                log.warning("kernel-pass-failed error=%s (tried again)", error)
                await asyncio.sleep(1.0)

    def _all(self) -> Wanted:
        parts = self._parts.values()
        return Wanted(
            links=tuple(chain.from_iterable(part.links for part in parts)),
            addresses=tuple(chain.from_iterable(part.addresses for part in parts)),
            routes=tuple(chain.from_iterable(part.routes for part in parts)),
            neighbours=tuple(chain.from_iterable(part.neighbours for part in parts)),
            fdb=tuple(chain.from_iterable(part.fdb for part in parts)),
            partial=any(part.partial for part in parts),
        )
