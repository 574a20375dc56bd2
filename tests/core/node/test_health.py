"""/healthz, /readyz and /metrics over TCP, and moving them to another address while tulled runs."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address
from typing import Any

import pytest

from tulle.node import status
from tulle.node.health import HealthServer
from tulle.node.metrics import Metrics
from tulle.node.state import NodeState

HERE = IPv4Address("127.0.0.1")
WAIT_S = 10.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def ask(port: int, path: str, verb: str = "GET") -> tuple[int, str]:
    """(0, "") where nobody listens."""

    def request() -> tuple[int, str]:
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=verb)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(asked, timeout=WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, ""

    return await asyncio.to_thread(request)


def serving(
    make_node: Callable[[], NodeState], test: Callable[[HealthServer, NodeState], Coroutine[Any, Any, None]]
) -> None:
    async def run() -> None:
        node = make_node()
        server = HealthServer(Metrics(lambda: status.snapshot(node)), node.not_ready)
        try:
            async with asyncio.timeout(30):
                await test(server, node)
        finally:
            server.close()
            await node.membership.let_go()

    asyncio.run(run())


def test_each_path_says_what_it_is_for(make_node: Callable[[], NodeState]) -> None:
    async def test(server: HealthServer, node: NodeState) -> None:
        port = free_port()
        await server.listen(HERE, port)
        assert await ask(port, "/healthz") == (200, "ok\n")
        node.doing = "getting a subnet"
        assert await ask(port, "/readyz") == (503, "getting a subnet\n")
        node.doing = ""
        assert await ask(port, "/readyz") == (200, "ok\n")
        found, text = await ask(port, "/metrics")
        assert (found, "tulle_ready 1.0" in text) == (200, True)
        assert (await ask(port, "/healthz", "HEAD")) == (200, "")
        assert (await ask(port, "/healthz", "POST"))[0] == 405
        found, text = await ask(port, "/v1/status")
        assert found == 404  # the local API is not for the network
        assert "/metrics" in text

    serving(make_node, test)


def test_it_moves_and_ends(make_node: Callable[[], NodeState]) -> None:
    async def test(server: HealthServer, node: NodeState) -> None:
        first, second = free_port(), free_port()
        await server.listen(HERE, first)
        await server.listen(HERE, first)
        await server.listen(HERE, second)
        assert (await ask(first, "/healthz"), await ask(second, "/healthz")) == ((0, ""), (200, "ok\n"))
        await server.listen(IPv4Address("0.0.0.0"), second)  # the same port, which it holds itself
        assert await ask(second, "/healthz") == (200, "ok\n")
        await server.listen(HERE, 0)
        assert await ask(second, "/healthz") == (0, "")

    serving(make_node, test)


def test_a_port_that_is_taken_is_named_and_the_old_one_stays(make_node: Callable[[], NodeState]) -> None:
    async def test(server: HealthServer, node: NodeState) -> None:
        port = free_port()
        await server.listen(HERE, port)
        with socket.create_server(("127.0.0.1", 0)) as holder:
            taken = holder.getsockname()[1]
            with pytest.raises(
                OSError, match=rf"--healthz-port: 127\.0\.0\.1 port {taken} cannot be listened on"
            ):
                await server.listen(HERE, taken)
        assert await ask(port, "/healthz") == (200, "ok\n")
        await server.listen(HERE, taken)
        assert await ask(taken, "/healthz") == (200, "ok\n")

    serving(make_node, test)
