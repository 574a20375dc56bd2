"""Plain UDP: the inner packet is the whole payload (flannel's udp wire). Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tulle.contracts.encapsulation import Buffer, Delivery, Opened, Outgoing, PathId, Paths, PeerId


class PlainUdp:
    """A peer's packets go to its first endpoint; nothing is added, so nothing proves a sender but its address."""

    def __init__(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> None:
        self._paths = paths
        self._path_of: dict[PeerId, PathId] = {}
        self._without_path = 0
        """Packets."""

    def configure(self, options: Mapping[str, Any], now: float) -> None:
        """There is nothing to set."""

    def set_peer(
        self, peer: PeerId, paths: Sequence[PathId], settings: Mapping[str, Any], now: float
    ) -> None:
        if paths:
            self._path_of[peer] = paths[0]
        else:
            self._path_of.pop(peer, None)

    def remove_peer(self, peer: PeerId, now: float) -> None:
        self._path_of.pop(peer, None)

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        path = self._path_of.get(peer)
        if path is None:
            self._without_path += len(packets)
            return ()
        return ((path, [(packet,) for packet in packets]),)

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        delivery: Delivery = (self._paths.peers_at(path), datagrams)
        return Opened((delivery,))

    def control(self, path: PathId, datagram: Buffer, now: float) -> Sequence[Outgoing]:
        return ()

    def deadline(self, now: float) -> float | None:
        return None

    def tick(self, now: float) -> Sequence[Outgoing]:
        return ()

    def send_failed(self, path: PathId, error: int, now: float) -> None:
        """The engine has counted it; the next packet may get through."""

    def export_state(self) -> bytes:
        return b""

    def import_state(self, state: bytes) -> None:
        """There are no sessions."""

    def counters(self) -> Mapping[str, int]:
        return {"drop-no-path": self._without_path} if self._without_path else {}

    def report(self, now: float) -> Mapping[PeerId, Mapping[str, Any]]:
        return {}
