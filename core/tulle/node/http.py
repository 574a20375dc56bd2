"""HTTP/1.1 with JSON over a Unix socket, or TCP: the server's side, on h11. Knows nothing of tulle's methods.

Who may speak is decided by the kernel's word on who connected (SO_PEERCRED): root, or the user that tulled runs as.
One request a connection; requests and answers are small.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import h11
import msgspec

log = logging.getLogger("tulle.api")

MAX_BODY_BYTES = 1 << 20
REQUEST_S = 10.0
"""For a request to arrive whole."""
ANSWER_S = 30.0
"""For an answer to be read."""
UCRED = struct.Struct("3i")  # unix(7): pid, uid, gid


class HttpError(Exception):
    """An answer that is not 200: the status, and what happened and what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _HungUp(Exception):
    """There is nobody to answer to."""


class Request(msgspec.Struct, frozen=True):
    verb: str
    path: str
    query: Mapping[str, str]
    body: Any
    """Decoded JSON; None where there was none."""


Handle = Callable[[Request], Awaitable[Any]]


class Answer(msgspec.Struct, frozen=True):
    """What a method returns that is not 200 with JSON."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    head_only: bool = False
    """Say how long the body is and leave it out (RFC 9110 section 9.3.2)."""


class HttpServer:
    """Serves until `close`. On a Unix socket (0600) only root and our own user may speak."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._file: os.stat_result | None = None

    async def start_unix(self, path: Path) -> None:
        """Called again it listens anew, at a path that was taken away."""
        self.close()
        self._path = path
        sock, self._file = _bound(path)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock)

    def reachable(self) -> bool:
        """Whether the path still leads to this server."""
        try:
            return bool(self._path and self._file and os.path.samestat(self._path.stat(), self._file))
        except OSError:
            return False

    async def start_tcp(self, host: str, port: int) -> int:
        """Returns the port (0 asks for any). Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, reuse_address=True)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            answer = await self._answer(connection, reader, writer)
            headers = [
                ("Content-Type", answer.content_type),
                ("Content-Length", str(len(answer.body))),
                ("Connection", "close"),
            ]
            for event in (
                h11.Response(status_code=answer.status, headers=headers),
                h11.Data(data=b"" if answer.head_only else answer.body),
                h11.EndOfMessage(),
            ):
                writer.write(connection.send(event) or b"")
            async with asyncio.timeout(ANSWER_S):
                await writer.drain()
        except TimeoutError:
            writer.transport.abort()  # whoever does not read keeps nothing here
        except (_HungUp, ConnectionError, h11.ProtocolError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Answer:
        try:
            _check_peer(writer)
            request = await _read_in_time(connection, reader)
            log.debug("api-asked %s %s", request.verb, request.path)
            found = await self._handle(request)
            answer = found if isinstance(found, Answer) else _json(200, found)
            return msgspec.structs.replace(answer, head_only=request.verb == "HEAD")
        except HttpError as error:
            return _json(error.status, {"error": str(error)})
        except h11.RemoteProtocolError as error:
            return _json(400, {"error": f"not HTTP: {error}"})
        except _HungUp:
            raise
        except Exception:
            log.exception("api-method-failed")
            return _json(500, {"error": "this failed inside tulled; its log says more"})


def _bound(path: Path) -> tuple[socket.socket, os.stat_result]:
    """With its file. A socket of an earlier tulled is replaced: the run directory's lock says that it is gone."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.bind(str(path))
    path.chmod(0o600)
    return sock, path.stat()


def _json(status: int, value: Any) -> Answer:
    return Answer(status, msgspec.json.encode(value), "application/json")


def _check_peer(writer: asyncio.StreamWriter) -> None:
    """Who may speak on a Unix socket; over TCP only what anybody may know is served."""
    sock = writer.get_extra_info("socket")
    if sock.family != socket.AF_UNIX:
        return
    _, uid, _ = UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    if uid not in (0, os.geteuid()):
        raise HttpError(403, f"user {uid} may not speak to tulled: use root (sudo)")


async def _read_in_time(connection: h11.Connection, reader: asyncio.StreamReader) -> Request:
    try:
        async with asyncio.timeout(REQUEST_S):
            return await _read(connection, reader)
    except TimeoutError:
        raise HttpError(408, f"the request was not whole within {REQUEST_S:g} s") from None
    except ConnectionError:
        raise _HungUp from None


async def _read(connection: h11.Connection, reader: asyncio.StreamReader) -> Request:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise HttpError(413, f"a body of more than {MAX_BODY_BYTES} bytes is not taken")
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _request(head, bytes(body))
        else:
            raise _HungUp


def _request(head: h11.Request, body: bytes) -> Request:
    text = head.target.decode("ascii", "replace")
    try:
        target = urlsplit(text)
    except ValueError as error:
        raise HttpError(400, f"{text!r} is no path: {error}") from error
    try:
        decoded = msgspec.json.decode(body) if body else None
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8 within a text
        raise HttpError(400, f"the body is not JSON: {error}") from error
    # A parameter without a value is one that may be wrong; the standard library would leave it out.
    query = dict(parse_qsl(target.query, keep_blank_values=True))
    return Request(head.method.decode("ascii", "replace"), target.path, query, decoded)
