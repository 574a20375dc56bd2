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

    def deadline(self, now: float) -> float | None:
        return None

    def tick(self, now: float) -> Sequence[Outgoing]:
        return ()

    def send_failed(self, path: PathId, error: int, now: float) -> None:
        pass

    def export_state(self) -> bytes:
        self._over = True
        return json.dumps([self._sent, self._heard]).encode()

    def import_state(self, state: bytes) -> None:
        if state:
            self._sent, self._heard = json.loads(state)

    def counters(self) -> Mapping[str, int]:
        return {"drop-not-authentic": self._drops}

    def report(self, now: float) -> Mapping[PeerId, Mapping[str, Any]]:
        return {peer: {"sent": self._sent.get(key.decode(), 0)} for peer, (key, _) in self._keys.items()}


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

    def deadline(self, now: float) -> float | None:
        return now - 1


class Sluggish(Sealed):
    """Wants to be called soon, whenever it is asked."""

    def deadline(self, now: float) -> float | None:
        return now + 0.0005


class Postponing(Sealed):
    """Wants to be called a minute after the last question."""

    def deadline(self, now: float) -> float | None:
        return now + 60.0


class Losing(Sealed):
    """Has a deadline, and says so once."""

    def __init__(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> None:
        super().__init__(paths, random_bytes)
        self._due: float | None = None

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        self._due = now + 10.0
        return super().seal(peer, packets, now)

    def deadline(self, now: float) -> float | None:
        due, self._due = self._due, None
        return due


class Punctual(Sealed):
    """Wants to be called ten seconds after it was called last: no break of the contract."""

    def __init__(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> None:
        super().__init__(paths, random_bytes)
        self._due = 0.0

    def deadline(self, now: float) -> float | None:
        return self._due

    def tick(self, now: float) -> Sequence[Outgoing]:
        self._due = now + 10.0
        return ()


class Fretful(Sealed):
    """Takes a failed send for its own end."""

    def send_failed(self, path: PathId, error: int, now: float) -> None:
        self._over = True


class Boasting(Sealed):
    """Shows its secret."""

    def report(self, now: float) -> Mapping[PeerId, Mapping[str, Any]]:
        return {peer: {"key": self._secret} for peer in self._keys}


class Remembering(Sealed):
    """Reports of peers that are gone."""

    def report(self, now: float) -> Mapping[PeerId, Mapping[str, Any]]:
        return {PeerId(number): {"heard": 1} for number in (1, 2, 3)}


class Obscure(Sealed):
    """Reports what is no JSON."""

    def report(self, now: float) -> Mapping[PeerId, Mapping[str, Any]]:
        return {peer: {"paths": (1, 2)} for peer in self._keys}


class Asking(Sealed):
    """A peer is asked for leave first: the answer comes from `open`, and what waited is sent because of it."""

    def __init__(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> None:
        super().__init__(paths, random_bytes)
        self._waiting: dict[PeerId, list[bytes]] = {}
        self._allowed: set[PeerId] = set()

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        if peer in self._allowed or self._over or peer not in self._paths:
            return super().seal(peer, packets, now)
        self._waiting.setdefault(peer, []).extend(map(bytes, packets))
        return super().seal(peer, [b"may I?"], now)

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        outgoing: list[Outgoing] = []
        deliveries = []
        for peers, packets in super().open(path, datagrams, now).deliveries:
            (peer,) = peers
            words = list(packets)
            for word in (b"may I?", b"you may"):
                if word in words:
                    words.remove(word)
                    outgoing += self._heard_word(peer, word, now)
            deliveries.append((peers, words))
        return Opened(deliveries, (), outgoing)

    def _heard_word(self, peer: PeerId, word: bytes, now: float) -> Sequence[Outgoing]:
        if word == b"may I?":
            return super().seal(peer, [b"you may"], now)
        self._allowed.add(peer)
        return super().seal(peer, self._waiting.pop(peer, []), now)


class Dumb(Asking):
    """Has something to say because of a datagram, and keeps it to itself."""

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        return Opened(super().open(path, datagrams, now).deliveries)


class Clinging(Sealed):
    """Sends on a path that it was once heard on, which the engine may have forgotten."""

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        opened = super().open(path, datagrams, now)
        for peers, _ in opened.deliveries:
            self._paths.update(dict.fromkeys(peers, path))
        return opened


class Shrinking(Sealed):
    """Counts down."""

    def counters(self) -> Mapping[str, int]:
        return {"left-to-drop": 1000 - self._drops}


ASKING = "test_asking_for_a_deadline_does_not_put_it_off"

SAME = "test_what_one_end_seals_the_other_opens_unchanged_in_order_and_by_name"


REPORT = "test_the_report_is_json_ready_of_known_peers_only_and_without_secrets"


def test_what_open_has_to_send_is_carried_and_missed_where_it_is_not_said() -> None:
    class Polite(TestSealed):
        kind: type[Sealed] = Asking

        def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
            return self.kind(paths, random_bytes)

    getattr(Polite(), SAME)()
    Polite.kind = Dumb
    with pytest.raises(AssertionError):
        getattr(Polite(), SAME)()


def test_a_deadline_that_stands_still_is_as_the_contract_says() -> None:
    class Good(TestSealed):
        def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
            return Punctual(paths, random_bytes)

    getattr(Good(), ASKING)()


def test_a_path_that_was_heard_on_once_is_not_for_ever() -> None:
    """Where its sockets tell, it has another number the next time."""

    class Broken(TestSealed):
        tells = True

        def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
            return Clinging(paths, random_bytes)

    with pytest.raises(KeyError):
        Broken().test_what_one_end_seals_the_other_opens_unchanged_in_order_and_by_name()


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Forgetful, "test_a_repeated_datagram_is_delivered_once"),
        (Credulous, "test_hostile_bytes_are_never_raised_and_the_talk_goes_on"),
        (Fragile, "test_hostile_bytes_are_never_raised_and_the_talk_goes_on"),
        (Reversing, SAME),
        (Keeping, "test_a_successor_takes_the_sessions_over"),
        (Late, SAME),
        (Late, "test_after_a_tick_the_next_one_is_later"),
        (Sluggish, ASKING),
        (Postponing, ASKING),
        (Losing, ASKING),
        (Fretful, "test_a_failed_send_is_survived"),
        (Boasting, REPORT),
        (Remembering, REPORT),
        (Obscure, REPORT),
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
