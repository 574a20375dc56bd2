"""The forwarder's copy of the desired state, and what each message changes in it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from tulle.contracts.backend import DataPeer
from tulle.contracts.engine import Local
from tulle.forward.messages import State


class Changes(msgspec.Struct):
    """What the engine is to do after one message."""

    local: Local | None = None
    options: dict[str, Any] | None = None
    upserts: list[DataPeer] = []
    removed: list[str] = []
    complete: bool = False
    """This was the last part: the generation is in force."""


class StateCopy:
    """Takes `State` messages in order."""

    def __init__(self) -> None:
        self.generation = 0
        self.peers: dict[str, DataPeer] = {}
        self.local: Local | None = None
        self.options: dict[str, Any] | None = None
        self._pending: State | None = None
        self._known = True
        """False: what is here is a part of something whose rest never came."""
        self._seen: set[str] = set()

    def take(self, state: State) -> Changes | None:
        """What changes; None where the difference does not start from what is here (ask for the whole)."""
        if not self._fits(state):
            return None
        if state.part == 0:
            self._seen = set()
        changes = Changes(complete=not state.more)
        self._take_settings(state, changes)
        for peer in state.peers:
            self._seen.add(peer.key)
            if self.peers.get(peer.key) != peer:
                self.peers[peer.key] = peer
                changes.upserts.append(peer)
        changes.removed = [key for key in state.removed if self.peers.pop(key, None) is not None]
        self._pending = state if state.more else None
        if not state.more:
            if state.base is None and not state.keep_peers:
                changes.removed += self._sweep()
            self.generation = state.generation
        self._known = not state.more
        return changes

    def _fits(self, state: State) -> bool:
        pending = self._pending
        if state.part == 0:
            return state.base is None or (self._known and state.base == self.generation)
        following = (state.generation, state.base, state.part - 1)
        return pending is not None and (pending.generation, pending.base, pending.part) == following

    def _take_settings(self, state: State, changes: Changes) -> None:
        if state.local is not None and state.local != self.local:
            self.local = changes.local = state.local
        if state.options is not None and state.options != self.options:
            self.options = changes.options = state.options

    def _sweep(self) -> list[str]:
        """A whole state is over: what it did not name is gone."""
        gone = [key for key in self.peers if key not in self._seen]
        for key in gone:
            del self.peers[key]
        return gone
