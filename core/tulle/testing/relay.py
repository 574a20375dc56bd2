"""A TCP relay on loopback whose line can be cut, refused or frozen: real bytes between a client and a real server.

async with Relay(server_port) as relay:
    client = connect(relay.port)
    relay.drop()
"""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType

LOOPBACK = "127.0.0.1"
_PIECE_BYTES = 1 << 16
_NO_LINGER = struct.pack("ii", 1, 0)


class Relay:
    """Everything happens in the event loop that enters it."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.port = 0
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
        self._listener = await asyncio.start_server(self._serve, LOOPBACK, self.port)
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

    def drop(self) -> None:
        """Cut all connections (RST); new ones are taken."""
        for writer in self._writers:
            # Closed with nothing to linger for, a TCP socket sends RST (socket(7), SO_LINGER).
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
        server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self._server_port)
        self._writers.add(server_writer)
        pumps = [
            asyncio.create_task(_pump(reader, server_writer, self._to_server)),
            asyncio.create_task(_pump(server_reader, writer, self._to_client)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            server_writer.transport.abort()
            self._writers.discard(server_writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        await gate.wait()
        writer.write(piece)
        await writer.drain()
