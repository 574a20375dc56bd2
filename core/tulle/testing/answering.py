"""An encapsulation for tests of engines: it answers datagrams, asks for ticks, and notes what the engine tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tulle.contracts.encapsulation import Buffer, Opened, Outgoing, PathId, Paths, PeerId, Remote

SILENT, OTHER, LATER = b"silent", b"other", b"later"
"""What datagrams may begin with: they are not answered; `control` answers, not `open`; the next tick answers."""
LATER_S = 0.05


class Answering:
    """Each datagram goes back to where `toward` says, from where it came."""

    def __init__(self, paths: Paths) -> None:
        self.toward: Callable[[Remote], Remote] = lambda remote: remote
        self.heard: list[tuple[Remote, bytes]] = []
        self.failed: list[tuple[Remote, int]] = []
        self.ticks: list[float] = []
        self.overdue = False
        """Its deadline is always past."""
        self.peers: list[PeerId] = []
        self._paths = paths
        self._due: float | None = None
        self._later: list[tuple[Remote, bytes]] = []

    def configure(self, options: Mapping[str, Any], now: float) -> None:
        """There is nothing to set."""

    def set_peer(
        self, peer: PeerId, paths: Sequence[PathId], settings: Mapping[str, Any], now: float
    ) -> None:
        self.peers.append(peer)

    def remove_peer(self, peer: PeerId, now: float) -> None:
        self.peers.remove(peer)

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        return ()

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        remote = self._paths.remote(path)
        answers: list[bytes] = []
        others: list[Buffer] = []
        for datagram in map(bytes, datagrams):
            self.heard.append((remote, datagram))
            if datagram.startswith(OTHER):
                others.append(datagram)
            elif datagram.startswith(LATER):
                self._later.append((remote, datagram))
                self._due = now + LATER_S
            elif not datagram.startswith(SILENT):
                answers.append(datagram)
        return Opened((), others, [self._answer(remote, answers)] if answers else ())

    def control(self, path: PathId, datagram: Buffer, now: float) -> Sequence[Outgoing]:
        return [self._answer(self._paths.remote(path), [bytes(datagram)])]

    def _answer(self, remote: Remote, datagrams: Sequence[bytes]) -> Outgoing:
        return self._paths.path_to(self.toward(remote)), [(one,) for one in datagrams]

    def deadline(self, now: float) -> float | None:
        return now - 1 if self.overdue else self._due

    def tick(self, now: float) -> Sequence[Outgoing]:
        self.ticks.append(now)
        later, self._later, self._due = self._later, [], None
        return [self._answer(remote, [datagram]) for remote, datagram in later]

    def send_failed(self, path: PathId, error: int, now: float) -> None:
        self.failed.append((self._paths.remote(path), error))

    def export_state(self) -> bytes:
        return b""

    def import_state(self, state: bytes) -> None:
        """There are no sessions."""

    def counters(self) -> Mapping[str, int]:
        return {}

    def report(self, now: float) -> Mapping[PeerId, Mapping[str, Any]]:
        return {peer: {"heard": len(self.heard), "packets-in": -1} for peer in self.peers}
