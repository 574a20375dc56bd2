"""What a path id stands for: one of our sockets, and a remote address and port.

Paths of peers' endpoints stay; those of strangers are forgotten oldest first, so that nobody fills the memory by
sending from many addresses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tulle.contracts.backend import Endpoint
from tulle.contracts.encapsulation import PathId, PeerId

MAX_STRANGERS = 4096

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
NOBODY: frozenset[PeerId] = frozenset()


class PathTable:
    """Both directions between path ids and (family, socket address)."""

    def __init__(self) -> None:
        self._ids: dict[SocketAddress, PathId] = {}
        self._addresses: dict[PathId, SocketAddress] = {}
        self._strangers: dict[PathId, None] = {}
        self._peers_at: dict[str, frozenset[PeerId]] = {}
        self._hosts: dict[PeerId, tuple[str, ...]] = {}
        self._paths: dict[PeerId, list[PathId]] = {}
        self._users: Counter[PathId] = Counter()
        self._next = 1

    def received_from(self, address: SocketAddress) -> PathId:
        """The path of a datagram's source, as recvmsg gives it."""
        found = self._ids.get(address)
        return self._intern(address, stranger=True) if found is None else found

    def address(self, path: PathId) -> SocketAddress | None:
        """Where to send; None for a path that has been forgotten."""
        return self._addresses.get(path)

    def peers_at(self, path: PathId) -> frozenset[PeerId]:
        address = self._addresses.get(path)
        return NOBODY if address is None else self._peers_at.get(address[0], NOBODY)

    def set_peer(self, peer: PeerId, endpoints: Sequence[Endpoint]) -> list[PathId]:
        """The peer's paths, best first. They replace its earlier ones."""
        self.remove_peer(peer)
        found: list[PathId] = []
        for endpoint in endpoints:
            address: SocketAddress = (endpoint.address, endpoint.port)
            if ":" in endpoint.address:
                address = (endpoint.address, endpoint.port, 0, 0)
            path = self._ids.get(address) or self._intern(address, stranger=False)
            self._strangers.pop(path, None)
            self._users[path] += 1
            found.append(path)
        self._paths[peer] = found
        hosts = tuple({endpoint.address: None for endpoint in endpoints})
        self._hosts[peer] = hosts
        for host in hosts:
            self._peers_at[host] = self._peers_at.get(host, NOBODY) | {peer}
        return found

    def remove_peer(self, peer: PeerId) -> None:
        """Its paths become strangers'."""
        for host in self._hosts.pop(peer, ()):
            left = self._peers_at[host] - {peer}
            if left:
                self._peers_at[host] = left
            else:
                del self._peers_at[host]
        for path in self._paths.pop(peer, ()):
            self._users[path] -= 1
            if not self._users[path]:
                del self._users[path]
                self._add_stranger(path)

    def _intern(self, address: SocketAddress, *, stranger: bool) -> PathId:
        path = PathId(self._next)
        self._next += 1
        self._ids[address] = path
        self._addresses[path] = address
        if stranger:
            self._add_stranger(path)
        return path

    def _add_stranger(self, path: PathId) -> None:
        self._strangers[path] = None
        if len(self._strangers) > MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            del self._ids[self._addresses.pop(oldest)]
