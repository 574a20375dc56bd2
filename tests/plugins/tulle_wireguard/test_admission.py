"""What passes before a handshake message costs anything, calm and under load."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tulle_wireguard.admission import Admission, Work
from tulle_wireguard.constants import (
    CHEAP_AT_ONCE,
    HANDSHAKE_QUEUE,
    HANDSHAKES_AT_ONCE,
    HANDSHAKES_PER_S,
    UNDER_LOAD_AT,
)
from tulle_wireguard.cookies import Stamper
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.messages import CookieReply, Initiation, decode

PUBLIC = bytes(range(32))
NOW = 1000.0
HERE = Endpoint(b"\x0a\0\0\x01", 51820)


class Gate:
    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.admission = Admission(PUBLIC, random.Random(1).randbytes, self.counters, NOW)
        self.stamper = Stamper(PUBLIC)

    def message(self, now: float = NOW) -> bytes:
        return self.stamper.stamp(Initiation(7, b"e" * 32, b"s" * 48, b"t" * 28).encode(), now)

    def offer(self, count: int = 1, source: Endpoint = HERE, now: float = NOW) -> None:
        for _ in range(count):
            self.admission.offer(self.message(now), source, now)

    def work(self, now: float = NOW) -> list[Work]:
        done = []
        while (one := self.admission.next(now)) is not None:
            done.append(one)
        return done

    def drain(self, now: float) -> list[Work]:
        """All that waits, as time goes on."""
        done = self.work(now)
        while (due := self.admission.deadline(now)) != float("inf"):
            assert due > now
            now = due
            done += self.work(now)
        return done


def test_without_mac1_nothing_is_even_queued() -> None:
    gate = Gate()
    bad = bytearray(gate.message())
    bad[116] ^= 1
    gate.admission.offer(bytes(bad), HERE, NOW)
    assert gate.work() == []
    assert gate.counters == {"drop-mac1": 1}
    assert gate.admission.deadline(NOW) == float("inf")


def test_calm_a_message_passes_without_a_cookie() -> None:
    gate = Gate()
    gate.offer()
    (one,) = gate.work()
    assert one.cookie_reply is None
    assert one.source == HERE


def test_only_so_many_handshakes_are_done_at_once_and_the_rest_follow_soon() -> None:
    gate = Gate()
    gate.offer(100)
    assert len(gate.work()) == HANDSHAKES_AT_ONCE
    assert NOW < gate.admission.deadline(NOW) < NOW + 0.01
    assert len(gate.drain(NOW)) == 100 - HANDSHAKES_AT_ONCE


def test_asking_for_the_deadline_over_and_over_does_not_put_it_off() -> None:
    gate = Gate()
    gate.offer(HANDSHAKES_AT_ONCE + 1)
    gate.work()
    now = NOW
    for _ in range(10):  # an engine asks before each wait, and sleeps until then
        due = gate.admission.deadline(now)
        if due <= now:
            break
        now = due
    assert due <= now < NOW + 0.01
    assert len(gate.work(now)) == 1


@pytest.mark.parametrize("gap_s", [0.0002, 0.0001, 0.00007])
def test_a_steady_flood_costs_no_more_than_the_rate(gap_s: float) -> None:
    gate, now, done = Gate(), NOW, 0
    message = gate.message()
    for _ in range(3000):
        now += gap_s
        gate.admission.offer(message, HERE, now)
        done += sum(one.cookie_reply is None for one in gate.work(now))
    assert done <= HANDSHAKES_AT_ONCE + HANDSHAKES_PER_S * 3000 * gap_s + 1
    assert gate.counters["cookie-replies"] > 0
    assert gate.admission.under_load(now)


def test_an_eighth_of_the_queue_is_load_for_a_second() -> None:
    gate = Gate()
    gate.offer(UNDER_LOAD_AT - 1)
    assert not gate.admission.under_load(NOW)
    gate.offer(1)
    assert gate.admission.under_load(NOW)
    assert gate.admission.under_load(NOW + 0.99)
    assert not gate.admission.under_load(NOW + 1)


def test_under_load_each_message_without_mac2_gets_a_cookie_and_no_more() -> None:
    gate = Gate()
    gate.offer(UNDER_LOAD_AT)
    batch = gate.work()
    assert len(batch) == CHEAP_AT_ONCE
    assert all(one.cookie_reply is not None for one in batch)
    assert gate.counters["cookie-replies"] == CHEAP_AT_ONCE


def test_under_load_the_cookie_opens_the_door_for_that_address() -> None:
    gate = Gate()
    gate.offer(UNDER_LOAD_AT)
    last = [one for one in gate.drain(NOW) if one.cookie_reply][-1]
    reply = decode(last.cookie_reply or b"")
    assert isinstance(reply, CookieReply)
    assert gate.stamper.take_reply(reply, NOW)
    soon = NOW + 0.5
    gate.offer(now=soon)
    gate.offer(source=HERE._replace(port=1), now=soon)
    first, second = gate.drain(soon)
    assert first.cookie_reply is None
    assert second.cookie_reply is not None


def test_under_load_a_true_source_is_limited_and_others_are_not() -> None:
    gate = Gate()
    gate.offer(UNDER_LOAD_AT)
    last = [one for one in gate.drain(NOW) if one.cookie_reply][-1]
    reply = decode(last.cookie_reply or b"")
    assert isinstance(reply, CookieReply)
    gate.stamper.take_reply(reply, NOW)
    soon = NOW + 0.5
    gate.offer(50, now=soon)
    passed = [one for one in gate.drain(soon) if one.cookie_reply is None]
    assert 5 <= len(passed) <= 7
    assert gate.counters["drop-source-limit"] == 50 - len(passed)


def test_a_full_queue_drops_what_comes_and_keeps_what_waits() -> None:
    gate = Gate()
    message = gate.message()
    for number in range(HANDSHAKE_QUEUE + 10):
        gate.admission.offer(message, HERE._replace(port=number), NOW)
    assert gate.counters["drop-handshake-queue"] == 10
    assert gate.drain(NOW)[0].source.port == 0


def test_with_another_key_of_ours_what_waited_is_forgotten() -> None:
    gate = Gate()
    gate.offer(10)
    gate.admission.set_public(b"x" * 32)
    gate.offer(1)
    assert gate.work() == []
    assert gate.counters == {"drop-mac1": 1}
