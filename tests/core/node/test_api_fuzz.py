"""Every method of the local API, and /healthz and its neighbours, under input that nobody should send: the answer is
4xx or what was asked for, never 5xx, never a traceback, and the next asker is served.

The methods are tulled's own, the socket is a real one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tulle.contracts.specs import ApiMethod
from tulle.node import status
from tulle.node.api import Api
from tulle.node.health import HealthServer
from tulle.node.http import HttpServer
from tulle.node.methods import OWN, methods
from tulle.node.metrics import Metrics
from tulle.node.state import NodeState

WAIT_S = 10.0
EXAMPLES = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""The server is one for all examples: that it lives on is a part of the test."""
GOOD = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"


class Served:
    """The API of a node that has not begun, on a socket, in a thread of its own."""

    def __init__(self, directory: Path, make_node: Callable[[], NodeState]) -> None:
        self.api, self.health = directory / "api", directory / "health"
        self.taken_down: list[bool] = []
        self._make_node = make_node
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        node = self._make_node()
        api = Api(self.api, methods(node, self._remove))
        health = HealthServer(Metrics(lambda: status.snapshot(node)), node.not_ready)
        health_socket = HttpServer(health._handle)  # on a socket as the other is: the way in is the same
        await api.start()
        await health_socket.start_unix(self.health)
        self._ready.set()
        await self._stop.wait()
        api.close()
        health_socket.close()
        await node.membership.let_go()

    async def _remove(self, release: bool) -> list[str]:
        self.taken_down.append(release)
        return ["everything: removed"]


@pytest.fixture
def served(short_dir: Path, make_node: Callable[[], NodeState]) -> Iterator[Served]:
    with Served(short_dir, make_node) as served:
        yield served


def exchange(path: Path, sent: bytes) -> bytes:
    """Bytes out and no more; what comes back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(str(path))
        answer = b""
        try:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, OSError):
            pass  # it has seen enough; the answer may be there all the same
        try:
            while piece := sock.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def status_of(answer: bytes) -> int:
    """0 where it only hung up."""
    return int(answer.split(maxsplit=2)[1]) if answer else 0


def check(served: Served, caplog: pytest.LogCaptureFixture, sent: bytes, path: Path | None = None) -> int:
    caplog.clear()
    answer = exchange(path or served.api, sent)
    found = status_of(answer)
    assert found == 0 or found == 200 or 400 <= found < 500 or (found == 503 and path == served.health)
    _, _, body = answer.partition(b"\r\n\r\n")
    if 400 <= found < 500 and body:
        assert json.loads(body)["error"]
        assert b"Traceback" not in body
    assert not caplog.records, caplog.text
    assert status_of(exchange(served.api, GOOD)) == 200
    return found


token = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~", min_size=1)
verbs = (
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"]) | token
)
known = st.sampled_from([f"/v1/{one.path}" for one in OWN] + ["/healthz", "/readyz", "/metrics"])
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)
targets = known | visible.map("/".__add__) | st.tuples(known, visible).map("".join) | visible
queries = st.dictionaries(st.sampled_from(["peer", "release", "x", ""]) | visible, visible, max_size=4).map(
    lambda pairs: "&".join(f"{key}={value}" for key, value in pairs.items())
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("release"), inner),
    max_leaves=8,
)
bodies = values.map(lambda one: json.dumps(one).encode()) | st.binary(max_size=300)
headers = st.lists(st.tuples(token, visible), max_size=5)


@EXAMPLES
@given(verb=verbs, target=targets, query=queries, body=bodies, more=headers, length=st.none() | st.integers())
def test_any_request_has_an_answer_that_is_no_fault_of_tulleds(
    served: Served,
    caplog: pytest.LogCaptureFixture,
    verb: str,
    target: str,
    query: str,
    body: bytes,
    more: list[tuple[str, str]],
    length: int | None,
) -> None:
    lines = [f"{verb} {target}{'?' if query else ''}{query} HTTP/1.1", "Host: x"]
    lines += [f"{name}: {value}" for name, value in more]
    lines += [f"Content-Length: {len(body) if length is None else length}"]
    sent = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    check(served, caplog, sent)
    check(served, caplog, sent, served.health)


@EXAMPLES
@given(sent=st.binary(max_size=3000))
def test_any_bytes_have_an_answer_that_is_no_fault_of_tulleds(
    served: Served, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    assert check(served, caplog, sent) != 200
    check(served, caplog, sent + b"\r\n\r\n")


@EXAMPLES
@given(
    method=st.sampled_from(OWN),
    body=st.sampled_from([b"", b"{}", b'{"release": false}']),
    place=st.integers(0, 200),
    noise=st.binary(min_size=1, max_size=20),
    cut=st.booleans(),
)
def test_a_good_request_with_a_fault_in_it_is_no_fault_of_tulleds(
    served: Served,
    caplog: pytest.LogCaptureFixture,
    method: ApiMethod,
    body: bytes,
    place: int,
    noise: bytes,
    cut: bool,
) -> None:
    head = f"{method.verb} /v1/{method.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    whole = head.encode() + body
    at = place % (len(whole) + 1)
    check(served, caplog, whole[:at] if cut else whole[:at] + noise + whole[at:])


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (b"GET /v1/status HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", (400,)),
        (b"GET /v1/status HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(9000)) + b"\r\n", (400,)),
        (b"GET /v1/" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
        (b"GET /v1/status?peer=" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
        (b"GET /v1/status?" + b"a=b&" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
        (b"GET /v1/status?peer=%ff%fe%00 HTTP/1.1\r\nHost: x\r\n\r\n", (200, 400)),
        (b"POST /v1/down HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"[" * 2000, (400,)),
        (b"POST /v1/down HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", (400,)),
        (b"POST /v1/down HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n", (400,)),
        (b"POST /v1/down HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", (400,)),
        (b"POST /v1/down HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", (400, 501)),
        (b"GET /v1/status HTTP/1.1\r\n\r\n", (400,)),
        (b"GET /v1/../v1/status HTTP/1.1\r\nHost: x\r\n\r\n", (404,)),
        (b"GET /v1/status\x00 HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (404,)),
    ],
    ids=lambda one: one[:30].decode("latin-1") if isinstance(one, bytes) else "",
)
def test_huge_and_crooked_heads_are_refused(
    served: Served, caplog: pytest.LogCaptureFixture, head: bytes, wanted: tuple[int, ...]
) -> None:
    answer = exchange(served.api, head)
    assert status_of(answer) in wanted, answer[:200]
    assert not caplog.records, caplog.text
    assert status_of(exchange(served.api, GOOD)) == 200


def test_nothing_but_a_right_request_takes_the_node_down(served: Served) -> None:
    for body in (b"[]", b"1", b'{"release": "yes"}', b'{"release": 1}', b'{"force": true}', b"{"):
        head = b"POST /v1/down HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert status_of(exchange(served.api, head + body)) == 400
    assert status_of(exchange(served.api, b"GET /v1/down HTTP/1.1\r\nHost: x\r\n\r\n")) == 405
    assert served.taken_down == []
    good = b'POST /v1/down HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{"release": true}'
    assert b"everything: removed" in exchange(served.api, good)
    assert served.taken_down == [True]
