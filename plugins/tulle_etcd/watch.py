"""A watch on etcd, as the contract's async generator: from a revision, with nothing lost and nothing twice.

A watch is silent when nothing changes and when its peer is frozen. So after some silence the same connection is asked
something that etcd always answers (Status, which all releases and proxies know), and no answer ends the watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from tulle.contracts.store import Compacted, Denied, Revision, StoreError, WatchBatch
from tulle_etcd import convert
from tulle_etcd import messages_pb2 as pb
from tulle_etcd.batches import Batches
from tulle_etcd.client import ATTEMPT_S, Client, metadata
from tulle_etcd.connection import NEEDS_LEADER, CallFailed, Connection
from tulle_etcd.errors import Failure, store_error, watch_cancelled
from tulle_etcd.methods import RANGE, STATUS, WATCH
from tulle_etcd.quiet_grpc import grpc

QUIET_S = 4.0
"""Silence after which the peer is asked whether it is there."""
PROBE_S = 4.0
"""For its answer. Together they bound how long a frozen peer goes unnoticed (the contract says 15 s)."""


async def watch(client: Client, prefix: str, after: Revision) -> AsyncGenerator[WatchBatch, None]:
    """See `tulle.contracts.store.Store.watch`."""
    doing = f"watch {prefix}"
    connection = await client.connection(doing)
    stream = None
    try:
        stream = await _open(client, connection, prefix, after)
        yield WatchBatch((), after, synced=True)
        batches = Batches(after)
        while True:
            if batch := batches.add(await stream.next()):
                yield batch
    except CallFailed as failed:
        if failed.lost:
            client.endpoints.retire(connection)
        raise store_error(failed.failure, doing) from None
    finally:
        if stream:
            stream.cancel()
        await client.endpoints.release(connection)


async def _open(client: Client, connection: Connection, prefix: str, after: Revision) -> _Stream:
    """A stream whose watch stands. A token that has expired is renewed once."""
    token = await client.tokens.get(connection)
    try:
        return await _create(connection, prefix, after, token)
    except Denied:
        # etcd 3.4 says "permission denied" to a watch with an expired token, so any refusal may mean that.
        if not client.tokens.renewable(token):
            raise
    return await _create(connection, prefix, after, await client.tokens.get(connection))


async def _create(connection: Connection, prefix: str, after: Revision, token: str) -> _Stream:
    stream = _Stream(connection, f"watch {prefix}", token)
    try:
        key, range_end = convert.prefix_range(prefix)
        created = await stream.create(
            pb.WatchCreateRequest(
                key=key, range_end=range_end, start_revision=after + 1, prev_kv=True, fragment=True
            )
        )
        if created.header.revision < after:
            await _check_history(connection, key, after, token)
    except CallFailed as failed:
        stream.cancel()
        if failed.failure.stale_token:
            raise store_error(failed.failure, stream.doing) from None
        raise
    except BaseException:
        stream.cancel()
        raise
    return stream


async def _check_history(connection: Connection, key: bytes, after: Revision, token: str) -> None:
    """The member knows less than we have seen. Either it lags, or the cluster was rebuilt from nothing or from a
    backup, and would leave us waiting for a revision of another history. A linearizable read tells."""
    answer = await connection.unary(RANGE, pb.RangeRequest(key=key, limit=1), ATTEMPT_S, metadata(token))
    if answer.header.revision < after:
        raise Compacted(
            f"etcd at {connection.url}: it is at revision {answer.header.revision} and had been at {after}: "
            "the cluster was rebuilt: list again"
        )


class _Stream:
    """The two-way call beneath a watch."""

    def __init__(self, connection: Connection, doing: str, token: str) -> None:
        self.doing = doing
        self._connection = connection
        self._call = connection.stream(WATCH, metadata(token))

    async def create(self, request: pb.WatchCreateRequest) -> pb.WatchResponse:
        """Returns etcd's confirmation. Raises CallFailed, StoreError."""
        try:
            async with asyncio.timeout(ATTEMPT_S):
                # A write that fails leaves its reason to be read.
                await self._result(self._call.write(pb.WatchRequest(create=request)))
                return await self.next()
        except TimeoutError:
            raise CallFailed(Failure("DEADLINE_EXCEEDED", "", self._connection.url)) from None

    async def next(self) -> pb.WatchResponse:
        """The next response, however long it takes, while the peer is alive. Raises CallFailed, StoreError."""
        reader = asyncio.ensure_future(self._call.read())
        try:
            while not (await asyncio.wait({reader}, timeout=QUIET_S))[0]:
                await self._probe(reader)
        finally:
            if not reader.done():
                reader.cancel()
                await asyncio.wait({reader})
        response: pb.WatchResponse = await self._result(reader)
        if response.canceled:
            raise self._cancelled(response)
        return response

    async def _probe(self, reader: asyncio.Future[Any]) -> None:
        """Returns when the peer has answered or `reader` has something. Raises CallFailed."""
        probe = asyncio.ensure_future(
            self._connection.unary(STATUS, pb.StatusRequest(), PROBE_S, NEEDS_LEADER)
        )
        try:
            await asyncio.wait({reader, probe}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not probe.done():
                probe.cancel()
                await asyncio.wait({probe})
        if reader.done() or not (error := probe.exception()):
            return
        if not isinstance(error, CallFailed) or error.lost:  # an answer that says no is an answer
            raise error

    async def _result(self, operation: Any) -> Any:
        """What reading or writing gives. Raises CallFailed."""
        try:
            result = await operation
        except grpc.aio.AioRpcError as error:
            raise CallFailed(self._connection.failure(error)) from None
        except asyncio.InvalidStateError:
            raise CallFailed(await self._end()) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise CallFailed(
                Failure("CANCELLED", "the connection was closed", self._connection.url)
            ) from None
        if result is grpc.aio.EOF:
            raise CallFailed(await self._end())
        return result

    async def _end(self) -> Failure:
        """Why the stream has ended."""
        code, details = await self._call.code(), await self._call.details()
        name = "UNAVAILABLE" if code is grpc.StatusCode.OK else code.name
        return Failure(name, details or "etcd ended the watch", self._connection.url)

    def _cancelled(self, response: pb.WatchResponse) -> StoreError:
        return watch_cancelled(
            response.cancel_reason, response.compact_revision, self._connection.url, self.doing
        )

    def cancel(self) -> None:
        """End the watch, at etcd too."""
        self._call.cancel()
