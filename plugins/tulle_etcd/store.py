"""The etcd store: `tulle.contracts.store.Store` over etcd v3."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any

from tulle.contracts.store import (
    Compare,
    Get,
    Health,
    KeyValue,
    LeaseGone,
    LeaseId,
    Listing,
    Op,
    Revision,
    StoreError,
    TxnResult,
    WatchBatch,
)
from tulle_etcd import convert
from tulle_etcd import messages_pb2 as pb
from tulle_etcd.client import Client
from tulle_etcd.errors import AnswerTooLarge
from tulle_etcd.methods import (
    LEASE_GRANT,
    LEASE_KEEP_ALIVE,
    LEASE_REVOKE,
    LEASE_TIME_TO_LIVE,
    RANGE,
    STATUS,
    TXN,
)
from tulle_etcd.settings import Settings, parse
from tulle_etcd.watch import watch

PAGE_KEYS = 1000
"""Keys in one answer of a listing: a third of a megabyte of leases, a few milliseconds of etcd's time."""

LOOKUPS_AT_ONCE = 64
"""Of `remaining`: etcd has no call for several leases."""


class EtcdStore:
    """See the contract. Nothing is connected before the first call."""

    name = "etcd"
    single_machine = False

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings)
        self.location = self._client.location

    async def get(self, key: str) -> KeyValue | None:
        request = pb.RangeRequest(key=convert.key_bytes(key))
        answer = await self._client.call(RANGE, request, f"read {key}", repeatable=True)
        return convert.key_value(answer.kvs[0]) if answer.kvs else None

    async def list(
        self, prefix: str, *, revision: Revision | None = None, keys_only: bool = False
    ) -> Listing:
        key, range_end = convert.prefix_range(prefix)
        request = pb.RangeRequest(
            key=key, range_end=range_end, limit=PAGE_KEYS, revision=revision or 0, keys_only=keys_only
        )
        items: list[KeyValue] = []
        while True:
            answer = await self._page(request, f"list {prefix}")
            items += map(convert.key_value, answer.kvs)
            # The first page without a revision says at which one it was read; the others follow it there.
            request.revision = request.revision or answer.header.revision
            if not answer.more or not answer.kvs:
                return Listing(items, Revision(request.revision))
            request.key = answer.kvs[-1].key + b"\0"

    async def _page(self, request: pb.RangeRequest, doing: str) -> pb.RangeResponse:
        """One page; a smaller one, from now on, where the values are large."""
        while True:
            try:
                return await self._client.call(RANGE, request, doing, repeatable=True)
            except AnswerTooLarge:
                if request.limit == 1:
                    raise
                request.limit = max(1, request.limit // 4)

    def watch(self, prefix: str, *, after: Revision) -> AsyncGenerator[WatchBatch, None]:
        return watch(self._client, prefix, after)

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()
    ) -> TxnResult:
        request = convert.transaction(compares, then, otherwise)
        reads_only = all(isinstance(op, Get) for op in (*then, *otherwise))
        keys = ", ".join(dict.fromkeys(one.key for one in (*then, *otherwise, *compares)))
        answer = await self._client.call(TXN, request, f"transaction on {keys}", repeatable=reads_only)
        return convert.transaction_result(answer, then, otherwise)

    async def grant(self, ttl_s: int) -> LeaseId:
        if ttl_s < 1:
            raise ValueError(f"a lease of {ttl_s} s: the shortest is 1 s")
        doing = f"ask for a lease of {ttl_s} s"
        answer = await self._client.call(
            LEASE_GRANT, pb.LeaseGrantRequest(ttl=ttl_s), doing, repeatable=False
        )
        if answer.error:
            raise StoreError(f"etcd at {self.location}: {doing}: {answer.error}")
        return LeaseId(answer.id)

    async def keepalive(self, lease: LeaseId) -> float:
        # etcd's method takes a stream of requests. A stream with one message is what a plain call is on the wire.
        doing = f"keep lease {lease:x} alive"
        request = pb.LeaseKeepAliveRequest(id=lease)
        answer = await self._client.call(LEASE_KEEP_ALIVE, request, doing, repeatable=True)
        if answer.ttl <= 0:
            raise LeaseGone(f"etcd: {doing}: it has expired or was revoked: ask for a new one")
        return float(answer.ttl)

    async def revoke(self, lease: LeaseId) -> None:
        try:
            await self._client.call(
                LEASE_REVOKE, pb.LeaseRevokeRequest(id=lease), f"revoke lease {lease:x}", repeatable=True
            )
        except LeaseGone:
            return

    async def remaining(self, leases: Collection[LeaseId]) -> Mapping[LeaseId, float]:
        left: dict[LeaseId, float] = {}
        wanted = list(leases)
        for start in range(0, len(wanted), LOOKUPS_AT_ONCE):
            some = wanted[start : start + LOOKUPS_AT_ONCE]
            answers = await asyncio.gather(*map(self._time_to_live, some), return_exceptions=True)
            for lease, answer in zip(some, answers, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                if answer >= 0:  # etcd says -1 of a lease that is gone
                    left[lease] = float(answer)
        return left

    async def _time_to_live(self, lease: LeaseId) -> int:
        request = pb.LeaseTimeToLiveRequest(id=lease)
        doing = f"read what is left of lease {lease:x}"
        answer = await self._client.call(LEASE_TIME_TO_LIVE, request, doing, repeatable=True)
        return answer.ttl

    async def health(self) -> Health:
        start = time.monotonic()
        answer, url = await self._client.call_at(
            STATUS, pb.StatusRequest(), "ask for its status", repeatable=True
        )
        return Health(url, time.monotonic() - start, answer.version)

    async def close(self) -> None:
        await self._client.close()


def open_store(settings: Mapping[str, Any]) -> EtcdStore:
    """The factory of the plugin's StoreSpec. Raises ValueError with one line for each problem."""
    return EtcdStore(parse(settings))
