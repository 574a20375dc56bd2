"""The HTTP API: whatever is said to it is answered once, by HTTP, or not at all; no method of tulled's breaks by it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

from tulle.node.http import HttpServer, Request

ANSWER_S = 20.0
STATUS = {200, 400, 408, 413, 501}
"""500 would be an exception of ours."""
SEEDS = [
    b"GET /v1/status?peer=n2&x= HTTP/1.1\r\nHost: tulled\r\n\r\n",
    b'POST /v1/down HTTP/1.1\r\nHost: tulled\r\nContent-Length: 13\r\n\r\n{"purge": [1]}',
    b"PUT /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n\r\n",
    b"GET //[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n\xff\xfe{[",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 120\r\n\r\n" + b"[" * 120,
]


class _Server:
    """In a thread of its own, so that each input is a plain exchange of bytes."""

    def __init__(self) -> None:
        self.failed: list[dict[str, Any]] = []
        self._directory = tempfile.mkdtemp(prefix="tulle-fuzz-")
        self.path = Path(self._directory, "api.sock")
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda loop, context: self.failed.append(context))
        self._server = HttpServer(self._echo)
        self._loop.run_until_complete(self._server.start_unix(self.path))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def _echo(self, request: Request) -> Any:
        return [request.verb, request.path, dict(request.query), request.body]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_S)
        self._loop.close()
        shutil.rmtree(self._directory, ignore_errors=True)


@cache
def server() -> _Server:
    return _Server()


def close() -> None:
    """After the last input."""
    if server.cache_info().currsize:
        server().close()
        server.cache_clear()


def target(data: bytes) -> None:
    answer = _said_to(data)
    assert not server().failed
    if not answer:
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    assert first.startswith(b"HTTP/1.1 ")
    status = int(first.split()[1])
    assert status in STATUS, answer
    lengths = [int(one.partition(b":")[2]) for one in fields if one.lower().startswith(b"content-length:")]
    assert len(lengths) == 1
    if body:
        assert len(body) == lengths[0]
        said = json.loads(body)
        assert set(said) == {"error"} if status != 200 else len(said) == 4


def _said_to(data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(ANSWER_S)
        client.connect(os.fspath(server().path))
        found = bytearray()
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(65536):
                found += piece
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had heard enough
    return bytes(found)
