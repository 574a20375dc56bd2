"""The socket that `wg` speaks to: /var/run/wireguard/NAME.sock, for root alone.

What stands behind it is a `Configurable`. Two are there: `alone.py`'s, whose settings are what was set here, and
`nodesettings.py`'s, for a node whose peers come from the store (`nodesockets.py` keeps its sockets). A server is used
so:

    server = UapiServer("wg0", device)   # device: a Configurable
    await server.start()                 # OSError: its text says what to do
    await server.removed()               # returns when somebody takes the socket's file away
    await server.close()                 # the file goes, if it is still ours

Several requests may follow each other on a connection, and several connections be open; changes come one after the
other. Whoever speaks nonsense gets an errno, whoever stops in the middle is hung up on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from pathlib import Path
from typing import Protocol

from tulle_wireguard.uapi import DeviceView, Get, Refusal, Request, RequestReader, Set, answer_to_get, status

log = logging.getLogger("tulle.wireguard")

DIRECTORY = Path("/var/run/wireguard")
"""Where `wg` looks: each *.sock in it is an interface (wg(8))."""
MAX_CONNECTIONS = 64
WAIT_S = 60.0
"""For the rest of a request, for the next one, and for an answer to be read."""
READ_BYTES = 256 * 1024
LOOK_S = 0.25
"""How soon a removed socket is noticed."""


class CannotChange(Exception):
    """A change that cannot be made; nothing of it was. `error`: of errno(3), positive."""

    def __init__(self, error: int, reason: str) -> None:
        super().__init__(reason)
        self.error = error


class Configurable(Protocol):
    """A device as the socket sees it."""

    async def view(self) -> DeviceView:
        """As it is now, with its traffic and handshakes."""
        ...

    async def change(self, wanted: Set) -> None:
        """All of it is done, or CannotChange is raised and nothing is. Never called twice at a time."""
        ...


class UapiServer:
    """See the module."""

    def __init__(self, name: str, device: Configurable, directory: Path | None = None) -> None:
        """`directory`: None is where `wg` looks."""
        self.path = (directory or DIRECTORY) / f"{name}.sock"
        self._name = name
        self._device = device
        self._changing = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._identity: os.stat_result | None = None

    async def start(self) -> None:
        """Returns when `wg` can connect. A socket that nobody listens on is replaced. Raises OSError."""
        if await asyncio.to_thread(somebody_listens, self.path):
            raise OSError(
                errno.EADDRINUSE, f"{self.path}: another program serves it; stop that, or choose another name"
            )
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            listener = self._listener()
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.path}: cannot listen there ({error.strerror}); run this as root, and let {self.path.parent} be "
                "a directory that root may write",
            ) from error
        self._server = await asyncio.start_unix_server(self._accept, sock=listener)

    def _listener(self) -> socket.socket:
        """Ready, with its rights, before it has its name."""
        fresh = self.path.with_name(self.path.name + ".new")  # no *.sock: `wg` does not see it
        fresh.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.bind(str(fresh))
            fresh.chmod(0o600)
            listener.listen()
            fresh.rename(self.path)
            self._identity = self.path.stat()
        except BaseException:
            listener.close()
            fresh.unlink(missing_ok=True)
            raise
        return listener

    async def removed(self) -> None:
        """Returns when the socket's file is gone, or another's."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self.is_there():
                return

    def is_there(self) -> bool:
        """The socket's file is ours and in its place."""
        try:
            return self._identity is not None and os.path.samestat(self.path.stat(), self._identity)
        except OSError:
            return False

    async def close(self) -> None:
        """Nobody is served any more. May be called twice."""
        if self._server is None:
            return
        if self.is_there():
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._server.close()
        for one in self._connections:
            one.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._server = None

    # --- connections ----------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name=f"uapi-{self._name}")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends, breaks, or is silent for too long."""
        try:
            if len(self._connections) > MAX_CONNECTIONS:
                writer.write(status(errno.EBUSY))
                return
            requests = RequestReader()
            while True:
                async with asyncio.timeout(WAIT_S):
                    data = await reader.read(READ_BYTES)
                if not data:
                    return
                for request in requests.receive(data):
                    writer.write(await self._answer(request))
                    async with asyncio.timeout(WAIT_S):
                        await writer.drain()
                    if isinstance(request, Refusal) and request.final:
                        return
        except (TimeoutError, OSError):
            return  # whoever it was went away
        finally:
            writer.close()

    async def _answer(self, request: Request) -> bytes:
        if isinstance(request, Get):
            return answer_to_get(await self._device.view())
        if isinstance(request, Set):
            try:
                async with self._changing:
                    await self._device.change(request)
            except CannotChange as refused:
                request = Refusal(refused.error, str(refused))
            else:
                return status()
        log.error("uapi-refused %s: %s", self._name, request.reason)
        return status(request.error)


def somebody_listens(path: Path) -> bool:
    """Whether a program serves that socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True
        except OSError as error:
            return error.errno == errno.EAGAIN  # its queue is full: it has not come to us yet
        return True
