"""Holding the node's name: one live tulled for each name in the cluster.

Who holds `alive/<name>` holds the name. The key goes 30 s after its holder's last sign, so whoever finds it waits
until it is gone (the holder is dead) or shows signs of life (two nodes have one name). One sign is not enough: what a
holder sent before it died may arrive late. A restart of the same node in the same boot goes on at once.
"""

from __future__ import annotations

import logging
import random

from tulle.contracts.store import NO_LEASE, KeyValue, Store, StoreError
from tulle.lease.allocate import Me
from tulle.lease.codec import decode_alive, encode_alive
from tulle.lease.errors import duplicate
from tulle.lease.model import Alive
from tulle.store.clock import Clock
from tulle.store.items import Undecodable
from tulle.store.publisher import Conflict, Publisher, RecordSet
from tulle.store.retry import Backoff, OutageLog

ALIVE_TTL_S = 30
ALIVE_RENEW_S = 10.0
"""Two signs of life may be lost."""
_POLL_S = 1.0
_PATIENCE_S = ALIVE_TTL_S + 15.0
"""A holder that is dead is gone by then, also where the store counts a little late."""
_SIGN_S = 2.0
"""The time left of a lease went up by more than this: its holder has renewed it."""
_SIGNS = 2
_APART_S = 5.0
"""Renewals that come closer together than this may be late ones that waited for one line; a live holder's do not."""

_log = logging.getLogger("tulle.lease.identity")


class NameHolder:
    """Takes and keeps `alive/<name>`."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        key: str,
        *,
        clock: Clock,
        rng: random.Random,
        outages: OutageLog,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._key = key
        self._clock = clock
        self._rng = rng
        self._outages = outages

    async def hold(self, me: Me) -> RecordSet:
        """Waits while the store is away, and for a dead holder's time to pass. Raises DuplicateNode."""
        value = encode_alive(Alive(me.id, me.boot_id))
        backoff = Backoff(self._rng)
        while True:
            try:
                current = await self._store.get(self._key)
                if current is not None and not _our_own(current, me):
                    await self._outwait(current, me)
                    continue
                kept = await self._publisher.put(
                    self._key,
                    {self._key: value},
                    ttl_s=ALIVE_TTL_S,
                    renew_s=ALIVE_RENEW_S,
                    known=[current] if current is not None else [],
                )
            except Conflict:
                continue  # somebody was there first: look who
            except StoreError as failure:
                self._outages.failed(self._key, failure)
                await self._clock.sleep(backoff.wait_s(failure))
            else:
                self._outages.worked(self._key)
                return kept

    async def _outwait(self, holder: KeyValue, me: Me) -> None:
        """Return when the holder is gone. Raises DuplicateNode when it shows that it is not."""
        _log.warning(
            "name-held: %r was held by another tulled (%s): waiting until its time is over, at most %d s",
            me.name,
            _who(holder),
            ALIVE_TTL_S,
        )
        end = self._clock.now() + _PATIENCE_S
        signs = 0
        counts_from = float("-inf")
        before = float("inf")
        while True:
            left = (await self._store.remaining([holder.lease])).get(holder.lease, 0.0)
            now_there, now = await self._store.get(self._key), self._clock.now()
            if now_there is None:
                return
            if left > before + _SIGN_S:
                end = now + _PATIENCE_S
                if now >= counts_from:
                    signs += 1
                    counts_from = now + _APART_S
            if signs == _SIGNS or now_there.modified != holder.modified or now >= end:
                raise duplicate(me.name, _who(now_there))
            before = left
            await self._clock.sleep(_POLL_S)


def _our_own(kv: KeyValue, me: Me) -> bool:
    """Ours of before a restart, or debris that no live tulled leaves: a key without a lease."""
    return kv.lease == NO_LEASE or decode_alive(kv.value) == Alive(me.id, me.boot_id)


def _who(kv: KeyValue) -> str:
    alive = decode_alive(kv.value)
    if isinstance(alive, Undecodable):
        return f"whose record cannot be read: {alive.reason}"
    return f"node id {alive.id[:16]}, boot id {alive.boot_id[:16]}"
