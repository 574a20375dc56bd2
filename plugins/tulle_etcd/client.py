"""Calls to etcd: a deadline on each, another endpoint where one fails, a new token where one has expired.

What may have been executed is never sent a second time: a write goes to another connection only while it has not left
this machine. Reads, and what may be repeated without harm, are tried again.
"""

from __future__ import annotations

import asyncio

from tulle.contracts.store import Denied, Unavailable
from tulle_etcd import messages_pb2 as pb
from tulle_etcd.connection import NEEDS_LEADER, CallFailed, Connection, Endpoints, Metadata, NoEndpoint
from tulle_etcd.errors import AUTH_OFF, Failure, store_error
from tulle_etcd.methods import AUTHENTICATE, Method, Request, Response
from tulle_etcd.settings import Login, Settings

ATTEMPT_S = 3.0
"""For one attempt. A write that a member passes to a leader that has just died is never answered, so waiting longer
than an election takes (etcd's default: 1 to 2 s) gains nothing."""
CALL_S = 8.0
"""All attempts together, connecting included."""


class Tokens:
    """What etcd wants to see with each call where its authentication is on. Simple tokens end after minutes without
    use and with a restart of etcd."""

    def __init__(self, login: Login | None) -> None:
        self._login = login
        self._token: str | None = None
        self._lock = asyncio.Lock()

    async def get(self, connection: Connection) -> str:
        """The token; "" without a login, or where etcd's authentication is off. Raises CallFailed, Denied."""
        if self._login is None:
            return ""
        if self._token is None:
            async with self._lock:  # one new token for all who wait
                if self._token is None:
                    self._token = await self._authenticate(connection, self._login)
        return self._token

    def renewable(self, stale: str) -> bool:
        """Forget a token that was refused. False where there is no way to another one."""
        if self._token == stale:
            self._token = None
        return self._login is not None

    async def _authenticate(self, connection: Connection, login: Login) -> str:
        try:
            request = pb.AuthenticateRequest(name=login.name, password=login.password())
        except (OSError, UnicodeDecodeError) as error:
            raise Denied(f"etcd-password-file: {login.file} cannot be read ({error}): put it back") from None
        try:
            # Without the stale token: etcd 3.4 refuses an Authenticate that carries one.
            answer = await connection.unary(AUTHENTICATE, request, ATTEMPT_S, NEEDS_LEADER)
        except CallFailed as failed:
            if AUTH_OFF in failed.failure.details:
                return ""
            raise
        return answer.token


def metadata(token: str) -> Metadata:
    """What goes with each call."""
    return (*NEEDS_LEADER, ("token", token)) if token else NEEDS_LEADER


class Client:
    """One etcd cluster."""

    def __init__(self, settings: Settings) -> None:
        self.location = ",".join(endpoint.url for endpoint in settings.endpoints)
        self.tokens = Tokens(settings.login)
        self.endpoints = Endpoints(settings.endpoints, settings.tls)

    async def call(
        self, method: Method[Request, Response], request: Request, doing: str, *, repeatable: bool
    ) -> Response:
        """The answer, by `CALL_S`. `doing` goes into error texts. Raises StoreError."""
        answer, _ = await self.call_at(method, request, doing, repeatable=repeatable)
        return answer

    async def call_at(
        self, method: Method[Request, Response], request: Request, doing: str, *, repeatable: bool
    ) -> tuple[Response, str]:
        """As `call`, with the URL that answered."""
        try:
            async with asyncio.timeout(CALL_S):
                return await self._attempts(method, request, doing, repeatable)
        except TimeoutError:
            raise store_error(Failure("DEADLINE_EXCEEDED", "", self.location), doing) from None

    async def _attempts(
        self, method: Method[Request, Response], request: Request, doing: str, repeatable: bool
    ) -> tuple[Response, str]:
        renewals, losses = 1, len(self.endpoints)
        while True:
            connection = await self.connection(doing)
            token, sent = "", False
            try:
                token = await self.tokens.get(connection)
                sent = True
                answer = await connection.unary(method, request, ATTEMPT_S, metadata(token))
                return answer, connection.url
            except CallFailed as failed:
                if failed.lost:
                    self.endpoints.retire(connection)
                if failed.failure.stale_token and renewals and self.tokens.renewable(token):
                    renewals -= 1
                elif failed.lost and losses and (repeatable or not sent):
                    losses -= 1
                else:
                    raise store_error(failed.failure, doing) from None
            finally:
                await self.endpoints.release(connection)

    async def connection(self, doing: str) -> Connection:
        """A connection that has answered; to be given back by `endpoints.release`. Raises Unavailable where no
        endpoint answers."""
        try:
            return await self.endpoints.acquire()
        except NoEndpoint as nothing:
            raise _no_endpoint(nothing, doing) from None

    async def close(self) -> None:
        await self.endpoints.close()


def _no_endpoint(nothing: NoEndpoint, doing: str) -> Unavailable:
    causes = "; ".join(
        f"{failure.endpoint}: {'no answer in time' if failure.code == 'DEADLINE_EXCEEDED' else failure.details}"
        for failure in nothing.failures
    )
    advice = "check that etcd runs there and is reachable from here"
    if any(failure.endpoint.startswith("https") for failure in nothing.failures):
        advice += ", and --etcd-cafile, --etcd-certfile and --etcd-keyfile"
    return Unavailable(f"etcd: {doing}: no endpoint answers: {causes}: {advice}")
