"""The worker's end: one listening socket, connections from daemons, one of them the master.

It is driven by the worker's own loop (`filenos`, `handle`, `idle`) and does one message at a time, so that packets go
on in between. The newest connection that has said Hello is the master: a restarted daemon takes over from its
predecessor's half-open one.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from tulle.worker import messages
from tulle.worker.frames import Connection, FrameError

log = logging.getLogger("tulle.worker")

FLUSH_S = 0.01
"""How soon what could not be sent is tried again."""
UCRED = struct.Struct("3i")  # unix(7), SO_PEERCRED: pid, uid, gid


class Handler(Protocol):
    """What a particular worker does."""

    def hello(self) -> messages.Hello: ...

    def descriptors(self, names: Sequence[str], descriptors: Sequence[int]) -> None:
        """A new whole set; the handler owns them from here on and closes the old ones."""
        ...

    def export(self) -> tuple[Sequence[str], Sequence[int]]:
        """Names and descriptors as they are."""
        ...

    def export_state(self) -> bytes: ...

    def import_state(self, data: bytes) -> None: ...

    def message(self, message: Any) -> Any | None:
        """Anything that is not common to all workers; returns the answer."""
        ...


class ControlServer:
    """See the module. `decode` turns bytes into a message and raises msgspec.DecodeError on anything else."""

    def __init__(self, listener: socket.socket, handler: Handler, decode: Callable[[bytes], Any]) -> None:
        listener.setblocking(False)
        self.stopping = False
        self._listener = listener
        self._handler = handler
        self._decode = decode
        self._allowed = {0, os.getuid()}
        self._connections: dict[int, Connection] = {}
        self._lost: list[Connection] = []
        self._master: Connection | None = None
        self._protocol = 0
        """The version that the master and we speak."""
        self._inbox: deque[tuple[Connection, bytes]] = deque()

    def filenos(self) -> Sequence[int]:
        return (self._listener.fileno(), *self._connections)

    def handle(self, fileno: int) -> None:
        connection = self._connections.get(fileno)
        if connection is None:
            self._accept()
            return
        try:
            found = connection.receive()
        except (FrameError, OSError) as error:
            log.warning("control-bad-frame error=%s", error)
            self._forget(connection)
            return
        if found is None:
            # What it said before it hung up still counts; the end of the stream shows itself again.
            if not any(one is connection for one, _ in self._inbox):
                self._forget(connection)
            return
        self._inbox.extend((connection, one) for one in found)

    def idle(self, now: float) -> float | None:
        """One message; returns when to come again."""
        for connection in list(self._connections.values()):
            if connection.unsent:
                self._guard(connection, connection.flush)
        if self._inbox:
            connection, data = self._inbox.popleft()
            if self._connections.get(connection.fileno()) is connection:
                self._guard(connection, lambda: self._receive(connection, data))
        while self._lost:
            self._lost.pop().close()
        if self._inbox:
            return now
        return now + FLUSH_S if any(one.unsent for one in self._connections.values()) else None

    def tell_master(self, message: Any) -> None:
        """Something that nobody asked for. Left out where nobody listens or the last is still unsent."""
        master = self._master
        if master is not None and not master.unsent:
            self._guard(master, lambda: master.send(messages.encode(message)))

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        _, uid, _ = UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
        if uid not in self._allowed:
            log.warning("control-refused uid=%d", uid)
            sock.close()
            return
        connection = Connection(sock)
        self._connections[connection.fileno()] = connection
        self._guard(connection, lambda: connection.send(messages.encode(self._handler.hello())))

    def _guard(self, connection: Connection, action: Callable[[], None]) -> None:
        """A connection that fails is dropped; the worker goes on."""
        try:
            action()
        except (OSError, FrameError, msgspec.DecodeError, ValueError) as error:
            log.warning("control-lost error=%s", error)
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        """It is closed by `idle`, and nowhere else: between two calls of `filenos` no number changes its meaning."""
        if self._connections.pop(connection.fileno(), None) is not None:
            self._lost.append(connection)
        if self._master is connection:
            self._master = None

    def _receive(self, connection: Connection, data: bytes) -> None:
        message = self._decode(data)
        if isinstance(message, messages.Hello):
            self._greet(connection, message)
        elif connection is not self._master:
            if isinstance(message, messages.Descriptors):
                for one in connection.take(len(message.names)):
                    os.close(one)
            connection.send(
                messages.encode(messages.Refused("say hello first; or a newer daemon has taken over"))
            )
        elif isinstance(message, messages.Descriptors):
            self._handler.descriptors(message.names, connection.take(len(message.names)))
            if self._protocol >= messages.HOLDING_SINCE:
                connection.send(messages.encode(messages.Holding(message.names)))
        elif isinstance(message, messages.Export):
            names, descriptors = self._handler.export()
            connection.send(messages.encode(messages.Descriptors(list(names))), tuple(descriptors))
        elif isinstance(message, messages.ExportState):
            connection.send(messages.encode(messages.StateBlob(self._handler.export_state())))
        elif isinstance(message, messages.StateBlob):
            self._handler.import_state(message.data)
        elif isinstance(message, messages.Stop):
            self.stopping = True
        else:
            answer = self._handler.message(message)
            if answer is not None:
                connection.send(messages.encode(answer))

    def _greet(self, connection: Connection, hello: messages.Hello) -> None:
        protocol = messages.choose_protocol(hello.protocols)
        if protocol is None:
            reason = f"protocols {hello.protocols} are not spoken here, {list(messages.PROTOCOLS)} are"
            connection.send(messages.encode(messages.Refused(reason)))
            return
        if self._master is not None and self._master is not connection:
            self._forget(self._master)
        self._master, self._protocol = connection, protocol
