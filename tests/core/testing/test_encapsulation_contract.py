"""The contract passes an encapsulation that authenticates, and fails those that break it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tulle.contracts.encapsulation import Buffer, Encapsulation, Opened, Outgoing, PathId, Paths, PeerId
from tulle.testing.encapsulation_contract import EncapsulationContract

TAG_BYTES, COUNTER_BYTES = 16, 8


class Sealed:
    """Counter, packet, tag. Each pair of nodes has a key of its own; a counter is taken once."""

    def __init__(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> None:
        self._secret = ""
        self._keys: dict[PeerId, tuple[bytes, bytes]] = {}
        self._paths: dict[PeerId, PathId] = {}
        self._sent: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._over = False
        self._drops = 0

    def configure(self, options: Mapping[str, Any], now: float) -> None:
        if not isinstance(options.get("secret"), str):
            raise ValueError("secret: is missing; give text")
        self._secret = options["secret"]

    def set_peer(
        self, peer: PeerId, paths: Sequence[PathId], settings: Mapping[str, Any], now: float
    ) -> None:
        theirs = settings["secret"]
        self._keys[peer] = (f"{self._secret}>{theirs}".encode(), f"{theirs}>{self._secret}".encode())
        if paths:
            self._paths[peer] = paths[0]

    def remove_peer(self, peer: PeerId, now: float) -> None:
        self._keys.pop(peer, None)
        self._paths.pop(peer, None)

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        if self._over or peer not in self._paths:
            return ()
        key = self._keys[peer][0]
        found = []
        for packet in packets:
            count = self._sent[key.decode()] = self._sent.get(key.decode(), 0) + 1
            body = count.to_bytes(COUNTER_BYTES, "big") + bytes(packet)
            found.append((body, self._tag(key, body)))
        return ((self._paths[peer], found),)

    @staticmethod
    def _tag(key: bytes, body: bytes) -> bytes:
        return hmac.digest(key, body, hashlib.sha256)[:TAG_BYTES]

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        return Opened([found for one in datagrams if (found := self._opened(bytes(one)))])

    def _opened(self, datagram: bytes) -> tuple[frozenset[PeerId], list[Buffer]] | None:
        body, tag = datagram[:-TAG_BYTES], datagram[-TAG_BYTES:]
        count = int.from_bytes(body[:COUNTER_BYTES], "big")
        for peer, (_, key) in self._keys.items():
            if hmac.compare_digest(self._tag(key, body), tag) and count > self._heard.get(key.decode(), 0):
                self._heard[key.decode()] = count
                return frozenset({peer}), [body[COUNTER_BYTES:]]
        self._drops += 1
        return None

    def control(self, path: PathId, datagram: Buffer, now: float) -> Sequence[Outgoing]:
        return ()

    def tick(self, now: float) -> tuple[Sequence[Outgoing], float | None]:
        return (), None

    def export_state(self) -> bytes:
        self._over = True
        return json.dumps([self._sent, self._heard]).encode()

    def import_state(self, state: bytes) -> None:
        if state:
            self._sent, self._heard = json.loads(state)

    def counters(self) -> Mapping[str, int]:
        return {"drop-not-authentic": self._drops}


class TestSealed(EncapsulationContract):
    authenticates = True

    def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
        return Sealed(paths, random_bytes)

    def options_of(self, node: str) -> Mapping[str, Any]:
        return {"secret": node}

    def settings_of(self, node: str) -> Mapping[str, Any]:
        return {"secret": node}


class Forgetful(Sealed):
    """Takes a counter again."""

    def _opened(self, datagram: bytes) -> tuple[frozenset[PeerId], list[Buffer]] | None:
        self._heard.clear()
        return super()._opened(datagram)


class Credulous(Sealed):
    """Looks at no tag."""

    @staticmethod
    def _tag(key: bytes, body: bytes) -> bytes:
        return bytes(TAG_BYTES)

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        return super().open(path, [bytes(one[:-TAG_BYTES]) + bytes(TAG_BYTES) for one in datagrams], now)


class Fragile(Sealed):
    """Raises at what it does not understand."""

    def _opened(self, datagram: bytes) -> tuple[frozenset[PeerId], list[Buffer]] | None:
        found = super()._opened(datagram)
        assert found is not None
        return found


class Reversing(Sealed):
    """Sends the last first."""

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        return super().seal(peer, list(packets)[::-1], now)


class Keeping(Sealed):
    """Seals on after its state was given away."""

    def export_state(self) -> bytes:
        state = super().export_state()
        self._over = False
        return state


class Late(Sealed):
    """Wants to be called in the past."""

    def tick(self, now: float) -> tuple[Sequence[Outgoing], float | None]:
        return (), now - 1


class Shrinking(Sealed):
    """Counts down."""

    def counters(self) -> Mapping[str, int]:
        return {"left-to-drop": 1000 - self._drops}


SAME = "test_what_one_end_seals_the_other_opens_unchanged_in_order_and_by_name"


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Forgetful, "test_a_repeated_datagram_is_delivered_once"),
        (Credulous, "test_hostile_bytes_are_never_raised_and_the_talk_goes_on"),
        (Fragile, "test_hostile_bytes_are_never_raised_and_the_talk_goes_on"),
        (Reversing, SAME),
        (Keeping, "test_a_successor_takes_the_sessions_over"),
        (Late, SAME),
        (Shrinking, "test_counters_have_stable_names_and_only_grow"),
    ],
)
def test_what_breaks_the_contract_fails(kind: type[Sealed], test: str) -> None:
    class Broken(TestSealed):
        def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
            return kind(paths, random_bytes)

    getattr(TestSealed(), test)()
    with pytest.raises(AssertionError):
        getattr(Broken(), test)()
