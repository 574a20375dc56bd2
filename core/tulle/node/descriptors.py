"""A TUN and its UDP sockets, as tulled and the forwarder share them: opened, or got back from a forwarder that an
earlier tulled started; kept as they are wanted; given to each forwarder.

Whoever holds them keeps the device there: with the last descriptor it is gone.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence

from tulle.contracts.backend import Listen
from tulle.kernel import sysctl
from tulle.kernel.tun import Tun, adopt, open_tun
from tulle.kernel.udp import open_udp, set_options
from tulle.worker import messages as worker
from tulle.worker.session import Session

log = logging.getLogger("tulle.dataplane")


class Descriptors:
    """Empty at first."""

    def __init__(self) -> None:
        self._tun: Tun | None = None
        self._sockets: dict[str, socket.socket] = {}

    async def fetch(self, session: Session) -> None:
        """Get back what a running forwarder has. What is here already stays."""
        session.send(worker.Export())
        named: worker.Descriptors = await session.expect(worker.Descriptors)
        for name, descriptor in zip(named.names, session.connection.take(len(named.names)), strict=True):
            if name in self._sockets or (self._tun is not None and name.startswith("tun:")):
                os.close(descriptor)
            elif name.startswith("udp:"):
                self._sockets[name] = socket.socket(fileno=descriptor)
            else:
                try:
                    self._tun = adopt(descriptor)
                except OSError:
                    os.close(descriptor)

    def want(self, device: str, listen: Sequence[Listen]) -> list[str]:
        """Open what is not there, close what is not wanted, and set what can be changed on the sockets that stay.
        Returns a line for each thing that was opened or closed. Raises OSError, with what to do; what was done until
        then stays."""
        lines = []
        if self._tun is not None and not (self._tun.alive() and self._tun.name == device):
            self._drop_device()
        if self._tun is None:
            self._tun = open_tun(device)
            lines.append(f"{device}: opened")
        for problem in sysctl.apply(sysctl.own_icmp_errors(device), {}).problems:
            log.warning("icmp-errors-lost %s: pods are not told of unreachable addresses", problem.subject)
        wanted = {f"udp:{one.family}:{one.port}": one for one in listen}
        for key in [key for key in self._sockets if key not in wanted]:
            self._sockets.pop(key).close()
            lines.append(f"{key}: closed")
        for key, one in wanted.items():
            if key in self._sockets:
                set_options(self._sockets[key], one)
            else:
                self._sockets[key] = open_udp(one)
                lines.append(f"{key}: listening")
        return lines

    def device_lives(self) -> bool:
        """False where somebody deleted or renamed it: `want` opens it anew."""
        return self._tun is not None and self._tun.alive()

    def give(self, session: Session) -> None:
        """To a forwarder, which holds them from then on as well. Raises WorkerGone."""
        assert self._tun is not None, "`want` comes first"
        names = [f"tun:{self._tun.name}:0", *self._sockets]
        filenos = (self._tun.fileno(), *(one.fileno() for one in self._sockets.values()))
        session.send(worker.Descriptors(names), filenos)

    def close(self) -> None:
        """Let go of all of them."""
        self._drop_device()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _drop_device(self) -> None:
        if self._tun is not None:
            self._tun.close()
            self._tun = None
