"""The `wg` sockets of a node: one for each of its devices, kept while the backend runs.

A socket that cannot be had is no reason for a node to carry no packets: it is said in the log and tried again at the
next `keep`, as is one whose file somebody has removed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tulle.contracts.backend import DataPeer
from tulle_wireguard import uapi_socket
from tulle_wireguard.nodesettings import NodeSettings
from tulle_wireguard.tunnels import DEVICE, DEVICE_V6
from tulle_wireguard.uapi_socket import UapiServer, somebody_listens
from tulle_wireguard.views import Told

log = logging.getLogger("tulle.wireguard")


class NodeSockets:
    """See the module."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed`: root has set peers or a mark of its own (`by_hand`, `fwmark`)."""
        self._changed = changed
        self._settings: dict[str, NodeSettings] = {}
        self._servers: dict[str, UapiServer] = {}
        self._said: dict[str, str] = {}
        """What is wrong, by device, so that it is said once."""

    async def keep(self, traffic: Mapping[str, Callable[[], Mapping[str, Told]]]) -> None:
        """These devices have sockets and no others. `traffic`, by device: see `NodeSettings`."""
        for name in [name for name in self._servers if name not in traffic]:
            await self._servers.pop(name).close()
            del self._settings[name]
        for name, told in traffic.items():
            settings = self._settings.setdefault(name, NodeSettings(told, self._changed))
            server = self._servers.setdefault(name, UapiServer(name, settings))
            if not server.is_there():
                await self._start(name, server)

    async def _start(self, name: str, server: UapiServer) -> None:
        await server.close()  # its file was removed
        try:
            await server.start()
        except OSError as error:
            if self._said.get(name) != str(error):
                log.warning("wg-socket-lost %s (until then wg cannot show this device)", error.strerror)
            self._said[name] = str(error)
        else:
            self._said.pop(name, None)

    def state(self, device: str, private_key: bytes, port: int, peers: list[DataPeer]) -> None:
        """What node and store say of a device that is kept."""
        self._settings[device].state(private_key, port, peers)

    def by_hand(self, device: str) -> list[DataPeer]:
        """Root's own peers there."""
        return self._settings[device].by_hand() if device in self._settings else []

    def fwmark(self, device: str) -> int:
        """Root's mark for what is sent; 0: none."""
        return self._settings[device].fwmark if device in self._settings else 0

    async def close(self) -> None:
        """What root has set is kept, for the same backend started again."""
        for server in self._servers.values():
            await server.close()
        self._servers.clear()


async def take_away() -> list[str]:
    """The sockets that a killed tulled left, for `tulle down`. Returns a line for each."""
    return await asyncio.to_thread(remove_dead, uapi_socket.DIRECTORY)


def dead_sockets(directory: Path) -> list[Path]:
    """Of a node's devices, and served by nobody: one that is served is another node's, with network namespaces of one
    file system, or another program's. Raises OSError where nobody may look."""
    places = (directory / f"{device}.sock" for device in (DEVICE, DEVICE_V6))
    return [
        one for one in places if one.is_socket() and os.access(one, os.W_OK) and not somebody_listens(one)
    ]


def remove_dead(directory: Path) -> list[str]:
    """Raises OSError."""
    lines = []
    for path in dead_sockets(directory):
        path.unlink(missing_ok=True)
        lines.append(f"{path}: removed")
    return lines
