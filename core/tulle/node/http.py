"""HTTP/1.1 with JSON over a Unix socket: the server's side, on h11. Knows nothing of tulle's methods.

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


class HttpServer:
    """`start` makes the socket (0600) and serves until `close`."""

    def __init__(self, path: Path, handle: Handle) -> None:
        self._path = path
        self._handle = handle
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.bind(str(self._path))
        self._path.chmod(0o600)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            status, answer = await self._answer(connection, reader, writer)
            body = msgspec.json.encode(answer)
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ]
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                writer.write(connection.send(event) or b"")
            await writer.drain()
        except (_HungUp, ConnectionError, h11.ProtocolError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, Any]:
        try:
            _check_peer(writer)
            request = await _read_in_time(connection, reader)
            return 200, await self._handle(request)
        except HttpError as error:
            return error.status, {"error": str(error)}
        except h11.RemoteProtocolError as error:
            return 400, {"error": f"not HTTP: {error}"}
        except _HungUp:
            raise
        except Exception:
            log.exception("api-method-failed")
            return 500, {"error": "this failed inside tulled; its log says more"}


def _check_peer(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
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
    except msgspec.DecodeError as error:
        raise HttpError(400, f"the body is not JSON: {error}") from error
    return Request(head.method.decode("ascii"), target.path, dict(parse_qsl(target.query)), decoded)
