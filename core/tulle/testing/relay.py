"""A TCP relay whose line can be cut, reset, refused, frozen or slow: real bytes between a client and a real server.

async with Relay(server_port) as relay:
    client = connect(relay.port)
    relay.drop()

`tulle.testing.faults.proxy` runs one as a program of its own, for daemons in a lab.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType

LOOPBACK = "127.0.0.1"
_PIECE_BYTES = 1 << 16
_PIECES = 64
"""Under way in one direction of a connection; what is more stays in the sender's socket."""
_NO_LINGER = struct.pack("ii", 1, 0)


class Relay:
    """Everything happens in the event loop that enters it."""

    def __init__(
        self, server_port: int, *, server_host: str = LOOPBACK, host: str = LOOPBACK, port: int = 0
    ) -> None:
        """`host`, `port`: where it listens; 0 is a port that is free."""
        self._server = (server_host, server_port)
        self._host = host
        self.port = port
        self.delay_s = 0.0
        """So much later does each piece arrive, both ways; to be changed at any time."""
        self.accepted = 0
        """Connections so far."""
        self._listener: asyncio.Server | None = None
        self._pairs: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._to_server, self._to_client = asyncio.Event(), asyncio.Event()
        self.thaw()

    async def __aenter__(self) -> Relay:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    async def accept(self) -> None:
        """Listen, on the same port as before."""
        self._listener = await asyncio.start_server(self._serve, self._host, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut all connections and refuse new ones, as a host does whose server has ended."""
        if self._listener:
            self._listener.close()
            self._listener = None
        self.drop()
        for pair in tuple(self._pairs):
            pair.cancel()
        if self._pairs:
            await asyncio.wait(self._pairs)

    def cut(self) -> None:
        """End all connections in good order (FIN), as a load balancer does; new ones are taken."""
        for writer in self._writers:
            writer.close()

    def drop(self) -> None:
        """Cut all connections (RST); new ones are taken."""
        for writer in self._writers:
            # Closed with nothing to linger for, a TCP socket sends RST (socket(7), SO_LINGER).
            with suppress(OSError):  # it has just ended by itself
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()

    def freeze(self) -> None:
        """Connections stay open and new ones are taken, but nothing passes: a black hole."""
        self._to_server.clear()
        self._to_client.clear()

    def mute(self) -> None:
        """Requests pass, answers do not."""
        self._to_client.clear()

    def thaw(self) -> None:
        """Everything passes again, what waited first."""
        self._to_server.set()
        self._to_client.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        self._writers.add(writer)
        try:
            await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the line was cut, by us or by one of the ends: both are ended below
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._pairs.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._server)
        self._writers.add(server_writer)
        pumps = [
            asyncio.create_task(self._pump(reader, server_writer, self._to_server)),
            asyncio.create_task(self._pump(server_reader, writer, self._to_client)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            server_writer.transport.abort()
            self._writers.discard(server_writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        """Ends when either side does."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)
        taking = asyncio.create_task(self._take(reader, under_way))
        try:
            while True:
                due, piece = await under_way.get()
                if not piece:
                    return
                if (wait_s := due - asyncio.get_running_loop().time()) > 0:
                    await asyncio.sleep(wait_s)
                await gate.wait()
                writer.write(piece)
                await writer.drain()
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async def _take(
        self, reader: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        """An empty piece is the end."""
        piece = b"more"
        while piece:
            try:
                piece = await reader.read(_PIECE_BYTES)
            except OSError:
                piece = b""  # reset by its end
            await under_way.put((asyncio.get_running_loop().time() + self.delay_s, piece))
