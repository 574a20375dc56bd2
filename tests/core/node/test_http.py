"""HTTP on a Unix socket: every wrong request has an answer that says why, and none of them hurts the others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.specs import ApiMethod
from tulle.contracts.store import Unavailable
from tulle.node import http
from tulle.node.api import Api

WAIT_S = 10.0


async def echo(query: Mapping[str, str], body: Mapping[str, Any]) -> Any:
    return {"query": query, "body": body}


async def picky(query: Mapping[str, str], body: Mapping[str, Any]) -> Any:
    raise ValueError("level: 9 is too high; give 0 to 3")


async def broken(query: Mapping[str, str], body: Mapping[str, Any]) -> Any:
    raise TimeoutError("a secret of the inside")


async def far(query: Mapping[str, str], body: Mapping[str, Any]) -> Any:
    raise Unavailable("the store does not answer")


METHODS = [
    ApiMethod(verb="GET", path="echo", handler=echo),
    ApiMethod(verb="POST", path="echo", handler=echo),
    ApiMethod(verb="GET", path="dns/cache", handler=echo),
    ApiMethod(verb="POST", path="picky", handler=picky),
    ApiMethod(verb="POST", path="broken", handler=broken),
    ApiMethod(verb="POST", path="far", handler=far),
]


def serving(directory: Path, test: Callable[[Path], Awaitable[None]]) -> None:
    async def run() -> None:
        path = directory / "api"
        api = Api(path, METHODS)
        await api.start()
        try:
            async with asyncio.timeout(60):
                await test(path)
        finally:
            api.close()

    asyncio.run(run())


async def exchange(path: Path, sent: bytes, *, hang_up: bool = False) -> tuple[int, Any]:
    """Raw bytes out; the status and the decoded answer; (0, None) where the server only hangs up."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(sent)
        if hang_up:
            writer.write_eof()
        async with asyncio.timeout(WAIT_S):
            text = await reader.read()
    except ConnectionError:
        return 0, None
    finally:
        writer.close()
    if not text:
        return 0, None
    head, _, body = text.partition(b"\r\n\r\n")
    assert b"application/json" in head
    return int(head.split()[1]), json.loads(body)


def request(verb: str, target: str, body: bytes = b"") -> bytes:
    head = f"{verb} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_a_request_reaches_its_method_with_query_and_body(short_dir: Path) -> None:
    async def test(path: Path) -> None:
        assert await exchange(path, request("GET", "/v1/echo?a=1&b=x%20y")) == (
            200,
            {"query": {"a": "1", "b": "x y"}, "body": {}},
        )
        assert await exchange(path, request("POST", "/v1/echo", b'{"k": [1]}')) == (
            200,
            {"query": {}, "body": {"k": [1]}},
        )
        assert (await exchange(path, request("GET", "/v1/dns/cache")))[0] == 200
        assert path.stat().st_mode & 0o777 == 0o600

    serving(short_dir, test)


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"hello there\r\n\r\n", 400, "not HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n", 400, "not HTTP"),
        (b"GET /v1/echo HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", 400, "not HTTP"),
        (request("POST", "/v1/echo", b"{not json"), 400, "the body is not JSON"),
        (request("POST", "/v1/echo", b"\xff\xfe"), 400, "the body is not JSON"),
        (request("POST", "/v1/echo", b'{"k": "\x80"}'), 400, "the body is not JSON"),
        (request("POST", "/v1/echo", b"[1]"), 400, "must be a JSON object"),
        (request("POST", "/v1/picky"), 400, "level: 9 is too high; give 0 to 3"),
        (request("GET", "//[/v1/echo"), 400, "is no path"),
        (request("POST", "/v1/dns/cache"), 405, "use GET"),
        (request("PUT", "/v1/echo"), 405, "use GET, POST"),
        (request("GET", "/v1/nothing"), 404, "GET /v1/echo"),
        (request("GET", "/v1/"), 404, "no such method"),
        (request("GET", "/v2/echo"), 404, "methods lie under /v1/"),
        (request("GET", "/"), 404, "methods lie under /v1/"),
        (request("OPTIONS", "*"), 404, "methods lie under /v1/"),
        (request("POST", "/v1/far"), 503, "the store does not answer"),
        (b"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{", 400, "not HTTP"),
    ],
)
def test_a_wrong_request_is_answered_with_what_is_wrong(
    short_dir: Path, sent: bytes, status: int, words: str
) -> None:
    async def test(path: Path) -> None:
        found, answer = await exchange(path, sent, hang_up=True)
        assert found == status
        assert words in answer["error"]
        assert (await exchange(path, request("GET", "/v1/echo")))[0] == 200

    serving(short_dir, test)


def test_a_method_that_fails_tells_no_secrets(short_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(path: Path) -> None:
        status, answer = await exchange(path, request("POST", "/v1/broken"))
        assert status == 500
        assert "secret" not in answer["error"]

    serving(short_dir, test)
    assert "a secret of the inside" in caplog.text


def test_a_body_that_is_too_large_is_refused_before_it_is_whole(short_dir: Path) -> None:
    def ask(path: Path) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(WAIT_S)
            sock.connect(str(path))
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(request("POST", "/v1/echo", bytes(http.MAX_BODY_BYTES + 1)))
            return sock.recv(1000)

    async def test(path: Path) -> None:
        assert b" 413 " in await asyncio.to_thread(ask, path)

    serving(short_dir, test)


def test_half_a_request_is_waited_for_only_so_long(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_S", 0.2)

    async def test(path: Path) -> None:
        half = request("POST", "/v1/echo", b'{"k": 1}')[:-4]
        status, answer = await exchange(path, half)
        assert status == 408
        assert "not whole within 0.2 s" in answer["error"]
        assert (await exchange(path, b""))[0] == 408

    serving(short_dir, test)


@pytest.mark.parametrize("said", [b"", b"GET /v1/ec", request("GET", "/v1/echo")])
def test_a_client_that_hangs_up_hurts_nobody(short_dir: Path, said: bytes) -> None:
    async def test(path: Path) -> None:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(str(path))
                sock.sendall(said)
        assert (await exchange(path, request("GET", "/v1/echo")))[0] == 200

    serving(short_dir, test)


def test_a_hundred_clients_at_once_get_each_their_own_answer(short_dir: Path) -> None:
    async def test(path: Path) -> None:
        asked = [exchange(path, request("GET", f"/v1/echo?n={number}")) for number in range(100)]
        found = await asyncio.gather(*asked)
        assert [(status, answer["query"]["n"]) for status, answer in found] == [
            (200, str(number)) for number in range(100)
        ]

    serving(short_dir, test)


AS_NOBODY = """
import os, socket, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
sock.settimeout(10)
sock.connect(sys.argv[1])
try:
    sock.sendall(b"GET /v1/echo HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
except BrokenPipeError:
    pass  # refused before it was asked: the answer is there all the same
answer = b""
while piece := sock.recv(1000):
    answer += piece
    if answer.endswith(b"}"):
        break
print(answer.decode())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_whatever_the_mode_of_the_socket(short_dir: Path) -> None:
    def ask(path: Path) -> str:
        words = [sys.executable, "-c", AS_NOBODY, str(path)]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    async def test(path: Path) -> None:
        short_dir.chmod(0o755)
        path.chmod(0o666)
        answer = await asyncio.to_thread(ask, path)
        assert " 403 " in answer
        assert "user 65534 may not speak to tulled: use root (sudo)" in answer

    serving(short_dir, test)


def test_a_socket_that_a_dead_tulled_left_is_replaced(short_dir: Path) -> None:
    async def test(path: Path) -> None:
        assert (await exchange(path, request("GET", "/v1/echo")))[0] == 200

    serving(short_dir, test)
    serving(short_dir, test)


def test_a_server_whose_socket_was_removed_knows_it_and_can_listen_again(short_dir: Path) -> None:
    path = short_dir / "tulled.sock"

    async def test() -> None:
        server = Api(path, METHODS)
        assert not server.reachable()
        await server.start()
        assert server.reachable()
        path.unlink()
        assert not server.reachable()
        path.touch()
        assert not server.reachable()
        await server.start()
        assert server.reachable()
        assert (await exchange(path, request("GET", "/v1/echo")))[0] == 200
        server.close()

    asyncio.run(test())
