"""The component: keeps the firewall as the flags want it, at every change of the ruleset, and forgets connections of
subnets that have gone.

    flags, networks, own subnets -> Wanted -> Firewall.settle
    event of the ruleset, or a look each few seconds -> settle again; what that changes was mended
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tulle.contracts.backend import JsonObject, Peer, Problem, Report
from tulle.contracts.component import ComponentContext, Snapshot
from tulle.contracts.kernel import Wanted as WantedKernel
from tulle.contracts.kernel import WantedRoute
from tulle.kernel import conntrack
from tulle.kernel.nft_watch import RulesetWatch, generation
from tulle.net.prefix import Prefix
from tulle_masquerade.accepts import accepts, needed
from tulle_masquerade.firewall import Firewall, Settled, Wanted
from tulle_masquerade.rules import nat_rules

BLACKHOLE_METRIC = 999_999
"""Worse than the bridge's own route, better than the unreachable route that covers the whole network."""

OLD_IPTABLES_LOOK_S = 1.5
"""Between looks where the old iptables is in use: it tells nobody of its changes."""
REST = 3.0
"""After a pass of t seconds the next one waits REST * t: whoever changes rules all the time costs a quarter of a
processor, and no more."""
LONGEST_REST_S = 1.0


class Masquerade:
    """See the module and `contracts.component.Component`."""

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        """It has no settings in the network config; flannel's flags are the node's."""
        self._ctx: ComponentContext | None = None
        self._firewall: Firewall | None = None
        self._wanted = Wanted()
        self._settled = Settled()
        self._known: frozenset[Prefix] | None = None
        """The peers' subnets at the last snapshot."""
        self._turn = asyncio.Lock()
        self._bell = asyncio.Event()
        self._watch: RulesetWatch | None = None
        self._task: asyncio.Task[None] | None = None
        self._generation: int | None = None
        """Of the ruleset when it was found as wanted; None: it was not, or nobody tells."""
        self._mends = 0
        self._fresh: list[str] = []
        """What `start` changed, for the first report."""

    async def start(self, ctx: ComponentContext) -> None:
        await self._end()
        self._ctx = ctx
        self._wanted = wanted(ctx)
        self._firewall = Firewall(ctx.enable_nftables)
        await self._firewall.open()
        if self._wanted != Wanted():
            with contextlib.suppress(OSError):  # without nftables there are no events: the looks are enough
                self._watch = RulesetWatch(self._bell.set)
        self._fresh = list((await self._settle()).lines)
        if ctx.kernel is not None:
            await ctx.kernel.want(WantedKernel(routes=blackholes(ctx)))
        if self._wanted != Wanted():
            self._task = asyncio.create_task(self._keep(ctx), name="masquerade")

    async def reconcile(self, snapshot: Snapshot) -> Report:
        if self._firewall is None:
            return Report()
        lines, self._fresh = self._fresh, []
        settled = await self._settle()
        lines += settled.lines
        problems = list(settled.problems)
        try:
            lines += await self._forget(snapshot.peers)
        except OSError as error:
            message = (
                f"tracked connections of subnets that have gone cannot be dropped ({error}); they time out"
            )
            problems.append(Problem("conntrack-refused", "masquerade", message))
        return Report(tuple(lines), tuple(problems))

    def ready(self) -> Sequence[str]:
        if self._firewall is None:
            return ["its rules are not set yet"]
        if self._task is not None and self._task.done():
            return [
                "nobody watches its rules any more: that is a fault of tulle's, restart tulled and report it"
            ]
        error = self._settled.nat_error
        return [f"pods' packets are not masqueraded: {error}"] if error else []

    def status(self) -> JsonObject:
        chosen = self._firewall.chosen if self._firewall is not None else None
        return {
            "masquerading": self._wanted.nat is not None,
            "tool": chosen.tool if chosen else "",
            "because": chosen.because if chosen else "",
            "forward_rules": bool(self._wanted.accepts),
            "resync_s": resync_s(self._ctx) if self._ctx is not None else 0,
            "mends": self._mends,
            "refused": [one.message for one in self._settled.problems],
        }

    async def stop(self, remove: bool) -> list[str]:
        firewall = self._firewall
        await self._end()
        if not remove or self._ctx is None or firewall is None:
            return []
        if self._ctx.kernel is not None:
            await self._ctx.kernel.want(WantedKernel())
        return await take_away()

    async def _end(self) -> None:
        if self._watch is not None:
            self._watch.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._firewall is not None:
            self._firewall.close()
        self._watch = self._task = self._firewall = None

    async def _settle(self) -> Settled:
        assert self._firewall is not None
        async with self._turn:
            self._bell.clear()
            before = current_generation()
            self._settled = await self._firewall.settle(self._wanted)
            # After a change of ours there is a look again: somebody else's may have come with it.
            self._generation = None if self._settled.lines else before
            return self._settled

    async def _keep(self, ctx: ComponentContext) -> None:
        """Until it is cancelled."""
        assert self._firewall is not None
        look_s = float(resync_s(ctx))
        if self._firewall.may_meet_old_iptables:
            look_s = min(look_s, OLD_IPTABLES_LOOK_S)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look_s):
                    await self._bell.wait()
            if not self._bell.is_set() and self._nothing_moved(self._firewall):
                continue
            begun = time.monotonic()
            settled = await self._settle()
            if settled.lines:
                self._mends += len(settled.lines)
                ctx.mended(settled.lines)
            ctx.suffers(settled.problems)
            await asyncio.sleep(min(REST * (time.monotonic() - begun), LONGEST_REST_S))

    def _nothing_moved(self, firewall: Firewall) -> bool:
        """Since the last pass, as far as it can be told without listing anything."""
        same = self._generation is not None and self._generation == current_generation()
        return same and not self._settled.problems and not firewall.meets_old_iptables

    async def _forget(self, peers: Sequence[Peer]) -> list[str]:
        """Connections of subnets that were a peer's at the last snapshot and are nobody's now."""
        assert self._ctx is not None
        now = frozenset(prefix for peer in peers for prefix in peer.prefixes)
        gone = vanished(self._known or frozenset(), (*now, *self._ctx.prefixes))
        self._known = now
        if not gone:
            return []
        count = await conntrack.forget(gone)
        return [f"{', '.join(map(str, gone))}: gone, {count} tracked connections dropped"] if count else []


def current_generation() -> int | None:
    """Of the ruleset; None where the kernel does not say."""
    try:
        return generation()
    except OSError:
        return None


def wanted(ctx: ComponentContext) -> Wanted:
    """By the flags. Pure."""
    options = ctx.options
    forwards = bool(options.get("iptables-forward-rules"))
    return Wanted(
        nat=nat_rules(ctx.networks, ctx.prefixes) if options.get("ip-masq") else None,
        fully_random=not options.get("ip-masq-fully-random-disable"),
        accepts=accepts(ctx.networks) if forwards else (),
        packets=tuple(needed(ctx.networks, ctx.prefixes)) if forwards else (),
    )


def resync_s(ctx: ComponentContext) -> int:
    """Seconds between looks that no event asked for, at least one."""
    return max(1, int(ctx.options.get("iptables-resync") or 0))


def blackholes(ctx: ComponentContext) -> tuple[WantedRoute, ...]:
    """Pure."""
    if not ctx.options.get("ip-blackhole-route"):
        return ()
    return tuple(WantedRoute(subnet, None, "blackhole", BLACKHOLE_METRIC) for subnet in ctx.prefixes)


def vanished(before: Collection[Prefix], now: Collection[Prefix]) -> list[Prefix]:
    """Those of which no part is anybody's now. A subnet that only grew or shrank is left. Pure."""
    gone = [
        one
        for one in before
        if not any(one.version == other.version and one.overlaps(other) for other in now)
    ]
    return sorted(gone, key=lambda one: (one.version, one))


async def take_away() -> list[str]:
    """All of ours in this network namespace, whoever made it. Returns a line for each thing."""
    firewall = Firewall()
    try:
        await firewall.open()
        return await firewall.take_away()
    finally:
        firewall.close()
