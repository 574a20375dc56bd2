"""The relay whose line can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from tulle.testing.relay import LOOPBACK, Relay

Body = Callable[[Relay, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def with_echo(body: Body) -> None:
    """Runs it with a relay to a server that sends everything back, and one connection through it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(100):
                writer.write(piece)
        except ConnectionError:
            pass  # the line was cut: that is what is tested
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(echo, LOOPBACK, 0)
        async with server, Relay(server.sockets[0].getsockname()[1]) as relay:
            reader, writer = await asyncio.open_connection(LOOPBACK, relay.port)
            try:
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                await asyncio.wait_for(body(relay, reader, writer), 10)
            finally:
                writer.transport.abort()

    asyncio.run(run())


async def silent(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), 0.2)
    except TimeoutError:
        return True
    return False


def test_a_dropped_line_is_reset_and_a_new_one_is_taken() -> None:
    async def body(relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay.drop()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        again, more = await asyncio.open_connection(LOOPBACK, relay.port)
        more.write(b"x")
        assert await again.readexactly(1) == b"x"
        more.transport.abort()
        assert relay.accepted == 2

    with_echo(body)


def test_a_refusing_relay_takes_nobody_until_it_accepts_again_on_its_port() -> None:
    async def body(relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = relay.port
        await relay.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(LOOPBACK, port)
        await relay.accept()
        assert relay.port == port
        _, more = await asyncio.open_connection(LOOPBACK, port)
        more.transport.abort()

    with_echo(body)


@pytest.mark.parametrize("how", ["freeze", "mute"])
def test_a_stopped_line_stays_open_and_delivers_when_it_thaws(how: str) -> None:
    async def body(relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        getattr(relay, how)()
        writer.write(b"late")
        assert await silent(reader)
        relay.thaw()
        assert await reader.readexactly(4) == b"late"

    with_echo(body)


def test_a_line_that_is_cut_ends_in_good_order_and_a_new_one_is_taken() -> None:
    async def body(relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay.cut()
        assert await reader.read(1) == b""
        _, more = await asyncio.open_connection(LOOPBACK, relay.port)
        more.transport.abort()

    with_echo(body)


def test_a_slow_line_delays_each_piece_but_not_one_after_the_other() -> None:
    async def body(relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay.delay_s = 0.1
        start = asyncio.get_running_loop().time()
        for _ in range(10):
            writer.write(b"x")
            await asyncio.sleep(0.01)
        await reader.readexactly(10)
        took = asyncio.get_running_loop().time() - start
        assert 0.25 < took < 1.0, "there and back, the pieces under way together"
        relay.delay_s = 0
        writer.write(b"quick")
        assert await asyncio.wait_for(reader.readexactly(5), 0.09) == b"quick"

    with_echo(body)


def test_a_line_may_be_cut_in_two_ways_one_after_the_other() -> None:
    async def body(relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay.cut()
        relay.drop()
        relay.drop()
        await relay.refuse()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read(1) == b""

    with_echo(body)
