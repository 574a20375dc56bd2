"""What a path id stands for: a remote address and port, our own address, and a DS byte.

Paths of peers' endpoints stay; others are forgotten oldest first, so that nobody fills the memory by sending from many
addresses. What was forgotten is known again, by another number, as soon as it is asked for or heard from.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tulle.contracts.backend import Endpoint
from tulle.contracts.encapsulation import PathId, PeerId, Remote
from tulle.forward.ancillary import NOTHING, ControlMessages, Told, is_link_local, to_send

MAX_STRANGERS = 4096

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
NOBODY: frozenset[PeerId] = frozenset()

_Key = SocketAddress | tuple[SocketAddress, bytes, int]
"""The socket address alone where nothing is said of `local` and `ds`: then a look-up needs nothing but what recvmsg
gives."""


class Way(NamedTuple):
    """How to send on a path."""

    family: socket.AddressFamily
    address: SocketAddress
    control: ControlMessages


class PathTable:
    """Both directions between path ids and what they stand for (`contracts.encapsulation.Paths`)."""

    def __init__(self) -> None:
        self._ids: dict[_Key, PathId] = {}
        self._keys: dict[PathId, _Key] = {}
        self._ways: dict[PathId, Way] = {}
        self._remotes: dict[PathId, Remote] = {}
        self._by_remote: dict[Remote, PathId] = {}
        """These three are filled when somebody asks."""
        self._strangers: dict[PathId, None] = {}
        self._peers_at: dict[str, frozenset[PeerId]] = {}
        self._hosts: dict[PeerId, tuple[str, ...]] = {}
        self._paths: dict[PeerId, list[PathId]] = {}
        self._users: Counter[PathId] = Counter()
        self._scopes: dict[str, int] = {}
        """Link-local address -> the interface that it was heard on last: a `Remote` has no room for it."""
        self._next = 1

    def received_from(self, address: SocketAddress, told: Told = NOTHING) -> PathId:
        """The path of a datagram: its source as recvmsg gives it, and what came with it."""
        key: _Key = (address, told.local, told.ds) if told.local or told.ds else address
        path = self._ids.get(key)
        if path is None:
            path = self._intern(key)
            self._strangers[path] = None
            self._forget_oldest()
            if len(address) == 4 and address[3]:
                self._scopes[address[0]] = address[3]
        return path

    def way(self, path: PathId) -> Way | None:
        """How to send; None for a path that has been forgotten."""
        way = self._ways.get(path)
        if way is None:
            key = self._keys.get(path)
            if key is not None:
                way = self._ways[path] = _way(*_parts(key))
        return way

    def remote(self, path: PathId) -> Remote:
        """Raises KeyError for one that has been forgotten."""
        remote = self._remotes.get(path)
        if remote is None:
            (host, port, *_), local, ds = _parts(self._keys[path])
            remote = self._remotes[path] = Remote(_packed(host), port, local, ds)
            self._by_remote[remote] = path
        return remote

    def path_to(self, remote: Remote) -> PathId:
        """It forgets nobody: all paths of one batch of sends are good until the next datagram is received."""
        path = self._by_remote.get(remote)
        if path is None:
            key = self._key(remote)
            path = self._ids.get(key)
            if path is None:
                path = self._intern(key)
                self._strangers[path] = None
            self._by_remote[remote] = path
            self._remotes.setdefault(path, remote)
        return path

    def peers_at(self, path: PathId) -> frozenset[PeerId]:
        key = self._keys.get(path)
        return NOBODY if key is None else self._peers_at.get(_parts(key)[0][0], NOBODY)

    def set_peer(self, peer: PeerId, endpoints: Sequence[Endpoint]) -> list[PathId]:
        """The peer's paths, best first. They replace its earlier ones. Raises ValueError where one is no address."""
        addresses = [_checked(endpoint) for endpoint in endpoints]
        self._withdraw(peer)
        found: list[PathId] = []
        for address in addresses:
            path = self._ids.get(address) or self._intern(address)
            self._strangers.pop(path, None)
            self._users[path] += 1
            found.append(path)
        self._paths[peer] = found
        hosts = tuple({endpoint.address: None for endpoint in endpoints})
        self._hosts[peer] = hosts
        for host in hosts:
            self._peers_at[host] = self._peers_at.get(host, NOBODY) | {peer}
        self._forget_oldest()
        return found

    def remove_peer(self, peer: PeerId) -> None:
        """Its paths become strangers'."""
        self._withdraw(peer)
        self._forget_oldest()

    def _withdraw(self, peer: PeerId) -> None:
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
                self._strangers[path] = None

    def _intern(self, key: _Key) -> PathId:
        path = PathId(self._next)
        self._next += 1
        self._ids[key] = path
        self._keys[path] = key
        return path

    def _key(self, remote: Remote) -> _Key:
        """A link-local address of ours says nothing without its interface, and one of the other family nothing at all:
        the kernel chooses then."""
        host = socket.inet_ntop(
            socket.AF_INET if len(remote.address) == 4 else socket.AF_INET6, remote.address
        )
        address = _socket_address(host, remote.port, self._scopes.get(host, 0))
        local = remote.local
        if len(local) != len(remote.address) or is_link_local(local):
            local = b""
        return (address, local, remote.ds) if local or remote.ds else address

    def _forget_oldest(self) -> None:
        if len(self._scopes) > MAX_STRANGERS:
            self._scopes.clear()
        while len(self._strangers) > MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            del self._ids[self._keys.pop(oldest)]
            self._ways.pop(oldest, None)
            remote = self._remotes.pop(oldest, None)
            if remote is not None and self._by_remote.get(remote) == oldest:
                del self._by_remote[remote]


def _parts(key: _Key) -> tuple[SocketAddress, bytes, int]:
    first = key[0]
    if isinstance(first, tuple):
        return key  # type: ignore[return-value]
    return key, b"", 0  # type: ignore[return-value]


def _packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def _checked(endpoint: Endpoint) -> SocketAddress:
    try:
        _packed(endpoint.address)
    except OSError:
        raise ValueError(f"{endpoint.address} is no IP address: an endpoint needs one") from None
    if not 0 <= endpoint.port <= 0xFFFF:
        raise ValueError(f"{endpoint.port} is no port: an endpoint needs one from 0 to 65535")
    return _socket_address(endpoint.address, endpoint.port)


def _socket_address(host: str, port: int, scope: int = 0) -> SocketAddress:
    return (host, port, 0, scope) if ":" in host else (host, port)


def _way(address: SocketAddress, local: bytes, ds: int) -> Way:
    version = 4 if len(address) == 2 else 6
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return Way(family, address, to_send(version, local, ds))
