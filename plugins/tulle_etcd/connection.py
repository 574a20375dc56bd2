"""Connections to etcd: one endpoint at a time, given up quickly when it fails, made anew rather than repaired.

A connection is a gRPC channel that has answered one Status call. It serves all calls until one of them finds it dead;
then it is *retired*: no new call takes it, the next endpoint in the list is tried, and it is closed when its last user
has left. New channels share nothing with old ones (gRPC would let them inherit its back-off), so an endpoint that is
back is used at the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tulle_etcd import messages_pb2 as pb
from tulle_etcd.errors import Failure
from tulle_etcd.methods import STATUS, Method, Request, Response
from tulle_etcd.quiet_grpc import grpc
from tulle_etcd.settings import Endpoint, Tls

CONNECT_S = 2.0
"""For name look-up, TCP, TLS and the first answer."""

SETTLE_S = 0.3

MAX_ANSWER_BYTES = 16 << 20
"""gRPC's own limit is 4 MiB. etcd's values are at most 1.5 MiB by default, and an event may carry two; listings come
in pages, so this bounds what a wrong server can make us hold and not what can be read."""

LOST = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL"})
"""Status codes after which another connection may do better."""

Metadata = tuple[tuple[str, str], ...]

NEEDS_LEADER: Metadata = (("hasleader", "true"),)
"""A member that is cut off from the majority refuses calls and ends watches instead of waiting or staying silent."""

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),  # the store is a neighbour: http_proxy is meant for the outside
)


class CallFailed(Exception):
    """A call got no good answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    @property
    def lost(self) -> bool:
        return self.failure.code in LOST


class NoEndpoint(Exception):
    """None of them answers."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__(failures)
        self.failures = failures


class Connection:
    """A channel to one endpoint. Made by `Endpoints`."""

    def __init__(self, endpoint: Endpoint, tls: Tls) -> None:
        """Raises OSError where a TLS file cannot be read."""
        self.url = endpoint.url
        self.users = 0
        self.retired = False
        self._closed = False
        if endpoint.secure:
            credentials = grpc.ssl_channel_credentials(*tls.read())
            self._channel = grpc.aio.secure_channel(endpoint.target, credentials, options=_CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(endpoint.target, options=_CHANNEL_OPTIONS)

    async def unary(
        self, method: Method[Request, Response], request: Request, timeout_s: float, metadata: Metadata
    ) -> Response:
        """One request, one answer. Raises CallFailed."""
        if self._closed:
            raise CallFailed(Failure("CANCELLED", "the connection was closed", self.url))
        call = self._channel.unary_unary(method.path, method.serialize, method.deserialize)
        try:
            answer: Response | None = await call(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(self.failure(error)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # `close` ended the call: nobody asked this task to stop.
            raise CallFailed(Failure("CANCELLED", "the connection was closed", self.url)) from None
        if answer is None:  # how gRPC reports bytes that its deserializer refuses
            raise CallFailed(Failure("INTERNAL", "the answer is not one of etcd's", self.url))
        return answer

    def stream(self, method: Method[Any, Any], metadata: Metadata) -> Any:
        """A call with messages both ways (grpc.aio.StreamStreamCall). Raises CallFailed after `close`."""
        if self._closed:
            raise CallFailed(Failure("CANCELLED", "the connection was closed", self.url))
        return self._channel.stream_stream(method.path, method.serialize, method.deserialize)(
            metadata=metadata
        )

    def failure(self, error: Any) -> Failure:
        """What an AioRpcError of this connection says, without gRPC's own preamble."""
        details = (error.details() or "").removeprefix("failed to connect to all addresses; last error: ")
        return Failure(error.code().name, details, self.url)

    def ready(self) -> bool:
        return not self._closed and self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._channel.close()


async def _settle() -> None:
    """A cancelled call leaves tasks of gRPC's own behind, for about a millisecond; let them end before the caller's
    loop does. They do not tell whose they are, so calls of another store in this loop make this wait in full."""
    helpers = {task for task in asyncio.all_tasks() if _of_grpc(task)}
    if helpers:
        await asyncio.wait(helpers, timeout=SETTLE_S)


def _of_grpc(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "").startswith(("_AioCall.", "StreamStreamCall."))


class Endpoints:
    """Of one etcd cluster, in order of preference."""

    def __init__(self, endpoints: Sequence[Endpoint], tls: Tls) -> None:
        self._endpoints = endpoints
        self._tls = tls
        self._next = 0
        self._current: Connection | None = None
        self._all: set[Connection] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._endpoints)

    async def acquire(self) -> Connection:
        """The connection in use, or a new one; to be given back by `release`. Raises NoEndpoint."""
        while not self._closed:
            current = self._current
            if current and current.ready():
                current.users += 1
                return current
            if current:
                # It broke on its way. Its endpoint may well be back, so it keeps its turn.
                current.retired = True
                self._current = None
                await self._close_unused(current)
            await self._connected()
        raise NoEndpoint([Failure("CANCELLED", "the store was closed", self._endpoints[self._next].url)])

    async def release(self, connection: Connection) -> None:
        connection.users -= 1
        await self._close_unused(connection)

    def retire(self, connection: Connection) -> None:
        """It has failed: let no new call take it. To be called by one of its users."""
        if connection.retired:
            return
        connection.retired = True
        if connection is self._current:
            self._current = None
            self._next = (self._next + 1) % len(self._endpoints)

    async def close(self) -> None:
        """Calls under way fail."""
        self._closed = True
        if self._connecting:
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
        for connection in tuple(self._all):
            await connection.close()
        self._all.clear()
        self._current = None
        await _settle()

    async def _connected(self) -> None:
        """One attempt, with one outcome, for all who wait at the same time."""
        task = self._connecting
        if task is None:
            task = self._connecting = asyncio.create_task(self._connect())
            task.add_done_callback(self._forget_attempt)
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    def _forget_attempt(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # seen, even where all who waited have gone

    async def _connect(self) -> None:
        failures = []
        for _ in self._endpoints:
            try:
                self._current = await self._try(self._endpoints[self._next])
                return
            except CallFailed as failed:
                failures.append(failed.failure)
                self._next = (self._next + 1) % len(self._endpoints)
        raise NoEndpoint(failures)

    async def _try(self, endpoint: Endpoint) -> Connection:
        try:
            connection = Connection(endpoint, self._tls)
        except OSError as error:
            text = f"{error.filename} cannot be read: {error.strerror}"
            raise CallFailed(Failure("UNAVAILABLE", text, endpoint.url)) from None
        self._all.add(connection)
        try:
            await connection.unary(STATUS, pb.StatusRequest(), CONNECT_S, NEEDS_LEADER)
        except CallFailed as failed:
            # Any word of etcd's own, "permission denied" too, shows that it is there.
            if failed.lost or failed.failure.code == "UNIMPLEMENTED":
                await self._discard(connection)
                raise
        except asyncio.CancelledError:
            await self._discard(connection)
            raise
        return connection

    async def _close_unused(self, connection: Connection) -> None:
        if connection.retired and not connection.users:
            await self._discard(connection)

    async def _discard(self, connection: Connection) -> None:
        self._all.discard(connection)
        await connection.close()
