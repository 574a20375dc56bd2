"""The handshake's own rules: timestamps, intervals, indices, and messages that nobody asked for."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.exchange import Exchange, Question
from tulle_wireguard.messages import CookieReply, Initiation, Response, decode
from tulle_wireguard.peer import Peer
from tulle_wireguard.tai64n import Stamps

NOW = 1000.0
HERE = Endpoint(b"\x0a\0\0\x01", 51820)


class Side:
    def __init__(self, seed: int) -> None:
        self.clock_ns = 10**18
        self.counters: Counter[str] = Counter()
        rng = random.Random(seed)
        self.exchange = Exchange(
            rng.randbytes(32), rng.randbytes, lambda: self.clock_ns, Stamps(), self.counters
        )

    def knows(self, other: Side) -> Peer:
        public = other.exchange.public
        peer = Peer(public, self.exchange.shared_with(public), lambda: 0.0)
        self.exchange.peers[public] = peer
        return peer

    def ask(self, peer: Peer, now: float = NOW) -> Initiation:
        self.clock_ns += 10**9
        message = decode(self.exchange.initiation(peer, now) or b"")
        assert isinstance(message, Initiation)
        return message

    def answer(self, message: Initiation, now: float = NOW) -> Response:
        question = self.exchange.read_initiation(message, now)
        assert question is not None
        response = decode(self.exchange.response(question, now) or b"")
        assert isinstance(response, Response)
        return response


@pytest.fixture
def sides() -> tuple[Side, Side, Peer, Peer]:
    a, b = Side(1), Side(2)
    return a, b, a.knows(b), b.knows(a)


Sides = tuple[Side, Side, Peer, Peer]


def test_a_handshake_gives_both_the_same_session(sides: Sides) -> None:
    a, b, b_at_a, a_at_b = sides
    assert a.exchange.read_response(b.answer(a.ask(b_at_a)), NOW) is b_at_a
    mine, theirs = b_at_a.pairs.current, a_at_b.pairs.next
    assert mine is not None
    assert theirs is not None
    assert (mine.send_key, mine.receive_key) == (theirs.receive_key, theirs.send_key)
    assert (mine.local, mine.remote) == (theirs.remote, theirs.local)
    assert b_at_a.flight is None


def test_an_initiation_is_taken_once_and_no_earlier_one_after_it(sides: Sides) -> None:
    a, b, b_at_a, _ = sides
    early, late = a.ask(b_at_a), a.ask(b_at_a)
    assert b.exchange.read_initiation(late, NOW) is not None
    for message in (late, early):
        assert b.exchange.read_initiation(message, NOW + 10) is None
    assert b.counters == {"drop-initiation-replayed": 2}


def test_one_initiation_of_a_peer_in_twenty_milliseconds(sides: Sides) -> None:
    a, b, b_at_a, _ = sides
    first, second, third = (a.ask(b_at_a) for _ in range(3))
    assert b.exchange.read_initiation(first, NOW) is not None
    assert b.exchange.read_initiation(second, NOW + 0.019) is None
    assert b.exchange.read_initiation(third, NOW + 0.021) is not None
    assert b.counters == {"drop-initiation-flood": 1}


def test_an_initiation_that_was_dropped_for_being_early_may_not_block_later_ones(sides: Sides) -> None:
    """A forged one cannot: nothing is kept before the timestamp was opened."""
    a, b, b_at_a, a_at_b = sides
    message = a.ask(b_at_a)
    forged = message._replace(timestamp=bytes(28))
    assert b.exchange.read_initiation(forged, NOW) is None
    assert a_at_b.timestamp == b""
    assert isinstance(b.exchange.read_initiation(message, NOW), Question)


def test_a_response_belongs_to_the_last_initiation_and_is_taken_once(sides: Sides) -> None:
    a, b, b_at_a, _ = sides
    first = b.answer(a.ask(b_at_a))
    second = b.answer(a.ask(b_at_a), NOW + 1)
    assert a.exchange.read_response(first, NOW) is None
    forged = second._replace(empty=bytes(16))
    assert a.exchange.read_response(forged, NOW) is None
    assert a.exchange.read_response(second, NOW) is b_at_a
    assert a.exchange.read_response(second, NOW) is None
    assert a.counters == {"drop-response-unasked": 2, "drop-response-unproven": 1}


def test_a_cookie_reply_with_an_unknown_index_is_nothing(sides: Sides) -> None:
    a, _, _, _ = sides
    a.exchange.read_cookie_reply(CookieReply(5, bytes(24), bytes(32)), NOW)
    assert a.counters == {"drop-cookie-unasked": 1}


def test_indices_of_sessions_that_are_gone_are_free(sides: Sides) -> None:
    a, b, b_at_a, a_at_b = sides
    for number in range(20):
        now = NOW + number
        a.exchange.read_response(b.answer(a.ask(b_at_a, now), now), now)
        pair = a_at_b.pairs.next
        assert pair is not None
        b.exchange.drop_pairs(a_at_b.pairs.received_in(pair) or [])
    assert len(a.exchange.pairs) == len(b_at_a.pairs.all()) == 2
    assert len(b.exchange.pairs) == len(a_at_b.pairs.all()) == 2


def test_indices_are_not_to_be_guessed(sides: Sides) -> None:
    a, _, b_at_a, _ = sides
    drawn = [a.ask(b_at_a).sender for _ in range(100)]
    assert len(set(drawn)) == 100
    assert max(drawn) - min(drawn) > 2**31
