"""What a handshake message must pass before it costs a Diffie-Hellman: paper sections 5.3 and 5.4.7.

1. mac1, always and first: who does not know our public key gets no answer at all.
2. A queue. It is worked off a little at a time, so that packets in sessions do not wait for handshakes.
3. Under load (the queue was an eighth full within the last second): mac2, else a cookie reply and no more;
   then the limit of the source.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from tulle_wireguard.constants import (
    CHEAP_AT_ONCE,
    CHEAP_PER_S,
    HANDSHAKE_QUEUE,
    HANDSHAKES_AT_ONCE,
    HANDSHAKES_PER_S,
    UNDER_LOAD_AT,
    UNDER_LOAD_STAYS_S,
)
from tulle_wireguard.cookies import Checker
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.limits import Bucket, SourceLimits


class Work(NamedTuple):
    """What comes next: a message to be read, or a cookie reply to be sent."""

    message: bytes
    source: Endpoint
    cookie_reply: bytes | None = None


class Admission:
    """Of one device. Counts what it drops in `counters`."""

    def __init__(
        self, public: bytes, random_bytes: Callable[[int], bytes], counters: Counter[str], now: float
    ) -> None:
        self._random_bytes = random_bytes
        self._counters = counters
        self._checker = Checker(public, random_bytes)
        self._queue: deque[tuple[bytes, Endpoint]] = deque()
        self._loaded_until = float("-inf")
        self._limits = SourceLimits()
        self._handshakes = Bucket(HANDSHAKES_PER_S, HANDSHAKES_AT_ONCE, now)
        self._cheap = Bucket(CHEAP_PER_S, CHEAP_AT_ONCE, now)

    def set_public(self, public: bytes) -> None:
        """We have another key. What waits was not meant for it."""
        self._checker = Checker(public, self._random_bytes)
        self._queue.clear()

    def is_for_us(self, message: bytes) -> bool:
        """Message 1 or 2, of the right length: whether its mac1 is made for our key."""
        return self._checker.mac1_holds(message)

    def offer(self, message: bytes, source: Endpoint, now: float) -> None:
        """Message 1 or 2, of the right length."""
        if not self._checker.mac1_holds(message):
            self._counters["drop-mac1"] += 1
        elif len(self._queue) >= HANDSHAKE_QUEUE:
            self._counters["drop-handshake-queue"] += 1
        else:
            self._queue.append((message, source))
            if len(self._queue) >= UNDER_LOAD_AT:
                self._loaded_until = now + UNDER_LOAD_STAYS_S

    def under_load(self, now: float) -> bool:
        return now < self._loaded_until

    def next(self, now: float) -> Work | None:
        """None where nothing waits or enough was done for now; `deadline` says when to ask again."""
        while self._queue and self._handshakes.take(now):
            if not self._cheap.take(now):
                self._handshakes.give_back()
                return None
            message, source = self._queue.popleft()
            if not self.under_load(now):
                return Work(message, source)
            bound = source.cookie_source()
            if not self._checker.mac2_holds(message, bound, now):
                self._handshakes.give_back()
                self._counters["cookie-replies"] += 1
                return Work(message, source, self._checker.reply(message, bound, now))
            if self._limits.allow(source.address, now):
                return Work(message, source)
            self._handshakes.give_back()
            self._counters["drop-source-limit"] += 1
        return None

    def deadline(self, now: float) -> float:
        """When `next` may give something: `now` where it may at once, infinity where nothing waits. Asking again does
        not put it off."""
        if not self._queue:
            return math.inf
        if self._handshakes.has_one(now) and self._cheap.has_one(now):
            return now
        # Never `now` itself, whatever the rounding: who asks again without time passing would spin.
        return max(self._handshakes.next_at(now), self._cheap.next_at(now), math.nextafter(now, math.inf))
