"""Acquiring a subnet: plan with what is known, one transaction, and again with fresh knowledge where it failed.

mirrors -> allocate.plan -> transaction (lease + member record, while the name is ours) -> nobody overlaps -> ours
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from tulle.contracts.store import NO_LEASE, Compare, KeyValue, Store, StoreError
from tulle.contracts.subnet import Claim
from tulle.lease import allocate
from tulle.lease.allocate import Choice, Create, Full, Me, Plan, Reuse, TakeOver
from tulle.lease.claims import overlapping_older
from tulle.lease.codec import decode_member, encode_lease, encode_member
from tulle.lease.errors import duplicate
from tulle.lease.model import MTU, Lease, Member
from tulle.net.prefix import Prefix
from tulle.net.subnets import SubnetRange
from tulle.store.clock import Clock, wait_for_event
from tulle.store.items import Item, Undecodable
from tulle.store.mirror import Mirror
from tulle.store.publisher import Conflict, Publisher, RecordSet
from tulle.store.retry import Backoff, OutageLog, RareLog

_LOOK_AGAIN_S = 10.0
"""While nothing is free: the config may be changed, too."""
_LONGEST_RENEWAL_S = 300.0
_RENEWALS = 4
"""Tries to renew between a full lease and the renew margin, at least."""

_log = logging.getLogger("tulle.lease.acquire")


class Keys:
    """Where things lie in the store."""

    def __init__(self, prefix: str, node: str) -> None:
        self.prefix = prefix.rstrip("/")
        self.config = f"{self.prefix}/config"
        self.subnets = f"{self.prefix}/subnets/"
        self.members = f"{self.prefix}/members/"
        self.member = f"{self.members}{node}"
        self.all_alive = f"{self.prefix}/alive/"
        self.alive = f"{self.all_alive}{node}"


class Times(msgspec.Struct, frozen=True):
    """How long a lease lasts, in seconds, and what may at least be left of it while the store answers."""

    ttl_s: int
    renew_margin_s: int

    def __post_init__(self) -> None:
        if not 0 < self.renew_margin_s < self.ttl_s:
            raise ValueError(
                f"a renew margin of {self.renew_margin_s} s does not fit a lease of {self.ttl_s} s: "
                f"give one between 1 and {self.ttl_s - 1}"
            )

    @property
    def renew_s(self) -> float:
        return min(_LONGEST_RENEWAL_S, (self.ttl_s - self.renew_margin_s) / _RENEWALS)


class Holding(msgspec.Struct):
    """The subnet that we have."""

    key: str
    """Short."""
    prefixes: tuple[Prefix, ...]
    kept: RecordSet
    lease_extra: dict[str, object]
    member_extra: dict[str, object]


class Acquirer:
    """See the module. The mirrors and the publisher must run."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        subnets: Mirror[Lease],
        members: Mirror[Member],
        publisher: Publisher,
        times: Times,
        *,
        clock: Clock,
        rng: random.Random,
        outages: OutageLog,
    ) -> None:
        self._store = store
        self._keys = keys
        self._subnets = subnets
        self._members = members
        self._publisher = publisher
        self._times = times
        self._clock = clock
        self._rng = rng
        self._outages = outages
        self._rare_full = RareLog(clock)

    async def acquire(
        self,
        ranges: Callable[[], Awaitable[Sequence[SubnetRange]]],
        claim: Claim,
        me: Me,
        alive: RecordSet,
    ) -> Holding:
        """Goes on until there is a subnet. `ranges` is asked at each try. Raises DuplicateNode where the name
        is lost meanwhile, and what `ranges` raises."""
        await self._subnets.synced.wait()
        await self._members.synced.wait()
        backoff = Backoff(self._rng)
        bell = asyncio.Event()
        with self._subnets.subscribe(bell):
            while True:
                allowed = await ranges()
                if alive.lost.is_set():
                    raise duplicate(me.name, "it took the name while we were away")
                bell.clear()
                try:
                    holding = await self._try(allowed, claim, me, alive, bell)
                except Conflict as conflict:
                    _log.info("lease-race: %s; trying again", conflict)
                except StoreError as failure:
                    self._outages.failed("acquire", failure)
                    await self._clock.sleep(backoff.wait_s(failure))
                    continue
                else:
                    self._outages.worked("acquire")
                    if holding is not None:
                        return holding
                await self._clock.sleep(backoff.wait_s())

    async def _try(
        self, ranges: Sequence[SubnetRange], claim: Claim, me: Me, alive: RecordSet, bell: asyncio.Event
    ) -> Holding | None:
        """None: not this time."""
        plan = await self._plan(ranges, me)
        if isinstance(plan, Full):
            self._rare_full.warn(
                _log,
                f"network-full: all {plan.count} subnets of {plan.network} are taken: remove leases of nodes "
                "that are gone, or give the network config a larger network; waiting for one",
            )
            await wait_for_event(self._clock, bell, _LOOK_AGAIN_S)
            return None
        holding = await self._carry_out(plan, claim, me, alive)
        if isinstance(plan, Create) and not await self._undisputed(holding, bell):
            await self._publisher.release(holding.kept)
            return None
        names = ", ".join(map(str, plan.prefixes))
        _log.info("lease-acquired: %s has %s (%s)", me.name, names, plan.why)
        return holding

    async def _plan(self, ranges: Sequence[SubnetRange], me: Me) -> Plan:
        leases = dict(self._subnets.items)
        plan = allocate.plan(ranges, leases, self._members.items, me, self._rng)
        if not isinstance(plan, TakeOver):
            return plan
        # The mirror of the records may lag behind that of the leases: a neighbour behind the same NAT may have
        # made this lease just now. A listing that is younger than the lease tells; so the leases that it is held
        # against are those of before, and not what the mirror has when the listing is here.
        listing = await self._store.list(self._keys.members)
        members = {kv.key: _member_item(kv) for kv in listing.items}
        return allocate.plan(ranges, leases, members, me, self._rng)

    async def _carry_out(self, plan: Choice, claim: Claim, me: Me, alive: RecordSet) -> Holding:
        """One transaction. Raises Conflict, Denied."""
        subnet_key = self._keys.subnets + plan.key
        current = plan.current if isinstance(plan, Reuse | TakeOver) else None
        reserved = current is not None and current.kv.lease == NO_LEASE
        lease_extra = current.value.extra if current is not None and current.value is not None else {}
        member_extra = _extra_of(plan.member)
        adopted = plan.member.lease if isinstance(plan, Reuse) and plan.adopt and plan.member else NO_LEASE
        kept = await self._publisher.put(
            subnet_key,
            self.values(plan.key, plan.prefixes, claim, me, lease_extra, member_extra),
            ttl_s=self._times.ttl_s,
            renew_s=self._times.renew_s,
            known=[kv for kv in (current.kv if current else None, plan.member) if kv is not None],
            lease=adopted,
            lasting={subnet_key, self._keys.member} if reserved else (),
            guards=[Compare(self._keys.alive, "lease", alive.records.lease), *plan.guards()],
            also=plan.also(),
        )
        return Holding(plan.key, plan.prefixes, kept, lease_extra, member_extra)

    def values(
        self,
        key: str,
        prefixes: tuple[Prefix, ...],
        claim: Claim,
        me: Me,
        lease_extra: dict[str, object],
        member_extra: dict[str, object],
    ) -> dict[str, bytes]:
        """The lease and the member record, by full key."""
        told = claim.advertisement
        lease = Lease(
            key,
            prefixes,
            dict(claim.public),
            told.type,
            dict(told.data) if told.data_text is None else told.data_text,
            dict(told.data_v6),
            extra=lease_extra,
        )
        public = [claim.public[family] for family in sorted(claim.public)]
        endpoints = tuple(dict.fromkeys([*public, *claim.candidates]))
        if claim.mtu:
            member_extra = member_extra | {MTU: claim.mtu}
        member = Member(me.name, me.id, me.boot_id, (key,), endpoints, member_extra)
        return {self._keys.subnets + key: encode_lease(lease), self._keys.member: encode_member(member)}

    async def _undisputed(self, holding: Holding, bell: asyncio.Event) -> bool:
        """Whether nobody who was there before us has a part of our new subnet. When our own key has come back
        through the mirror, everything older has, too."""
        key = self._keys.subnets + holding.key
        while not holding.kept.lost.is_set():
            item, known = self._subnets.items.get(key), holding.kept.records.known.get(key)
            if item is not None and known is not None and item.kv.modified == known.modified:
                older = overlapping_older(item, self._subnets.items)
                if older:
                    _log.info("lease-overlap: %s overlaps %s, which is older; trying another", key, older)
                return not older
            bell.clear()
            await wait_for_event(self._clock, bell, 1.0)
        return False


def _member_item(kv: KeyValue) -> Item[Member]:
    value = decode_member(kv)
    return Item(kv, None if isinstance(value, Undecodable) else value)


def _extra_of(kv: KeyValue | None) -> dict[str, object]:
    value = decode_member(kv) if kv is not None else None
    return value.extra if isinstance(value, Member) else {}
