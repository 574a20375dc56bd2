"""What a backend makes of each peer, made anew only where a peer has changed: one change among thousands costs little.
Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from tulle.contracts.backend import Peer

T = TypeVar("T")


class PeerMemo(Generic[T]):
    """By lease key, in the order in which peers came: who stays keeps its place."""

    def __init__(self, make: Callable[[Peer], T]) -> None:
        self._make = make
        self._peers: dict[str, Peer] = {}
        self._made: dict[str, T] = {}

    def update(self, peers: Sequence[Peer]) -> tuple[list[T], list[T]]:
        """The whole set of peers. Returns what was made of those that are gone or were otherwise, and what is new."""
        known, made = self._peers, self._made
        odd = [peer for peer in peers if known.get(peer.key) is not peer]
        fresh = [peer for peer in odd if known.get(peer.key) != peer]
        gone = [made[peer.key] for peer in fresh if peer.key in made]
        known.update((peer.key, peer) for peer in odd)
        if len(known) != len(peers):
            for key in known.keys() - {peer.key for peer in peers}:
                gone.append(made.pop(key))
                del known[key]
        come = [self._make(peer) for peer in fresh]
        made.update(zip((peer.key for peer in fresh), come, strict=True))
        return gone, come

    def pairs(self) -> Iterable[tuple[Peer, T]]:
        return zip(self._peers.values(), self._made.values(), strict=True)

    def values(self) -> list[T]:
        return list(self._made.values())

    def forget(self) -> None:
        """What things are made of has changed: the next `update` makes all anew."""
        self._peers, self._made = {}, {}
