"""What to do while the store does not answer: how long to wait before the next try, and how often to say so."""

from __future__ import annotations

import logging
import random
from collections import deque

from tulle.contracts.store import Denied
from tulle.store.clock import Clock

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
DENIED_WAIT_S = 10.0
"""Credentials get better by a person's hand only."""
REPEAT_S = 60.0
"""A trouble that lasts is mentioned once a minute."""
LOSSES_TOLD = 3
"""In a minute. A store that comes and goes is one trouble too."""


class Backoff:
    """How long to wait before the next try: doubling, with jitter, so that nodes that lost the same store do not
    come back at the same moment."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._next = FIRST_WAIT_S

    def wait_s(self, error: Exception | None = None) -> float:
        """Seconds to wait now that a try has failed, with that error."""
        if isinstance(error, Denied):
            return DENIED_WAIT_S
        wait, self._next = self._next, min(self._next * 2, LONGEST_WAIT_S)
        return wait * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """A try has worked."""
        self._next = FIRST_WAIT_S


class OutageLog:
    """Says that the store is away: one line at the loss, one a minute, one at the return, however many tasks
    ("sources") run into it. Where it comes and goes all the time, most losses are counted only."""

    def __init__(self, logger: logging.Logger, store: str, clock: Clock) -> None:
        self._logger = logger
        self._store = store
        self._clock = clock
        self._failing: set[str] = set()
        self._since = 0.0
        self._said = 0.0
        self._told_at: deque[float] = deque(maxlen=LOSSES_TOLD)
        self._told = False
        """Of this loss: then its end is told too."""
        self._held = 0

    def failed(self, source: str, error: Exception) -> None:
        now = self._clock.now()
        if not self._failing and self._may_tell(now):
            self._since = self._said = now
            word = "store-denied" if isinstance(error, Denied) else "store-lost"
            self._logger.warning(
                "%s: %s: %s; what is known stays in use and tulle tries again", word, self._store, error
            )
        elif not self._failing:
            self._since = now
            self._held += 1
        elif now - self._said >= REPEAT_S:
            self._said, self._told = now, True
            self._logger.warning(
                "store-away: %s: for %.0f s now: %s; still trying", self._store, now - self._since, error
            )
        self._failing.add(source)

    def worked(self, source: str) -> None:
        if source not in self._failing:
            return
        self._failing.discard(source)
        if not self._failing and self._told:
            away_s = self._clock.now() - self._since
            more = f"; before that it was lost {self._held} times for a short while" if self._held else ""
            self._held = 0
            self._logger.warning("store-back: %s answers again after %.1f s%s", self._store, away_s, more)

    def _may_tell(self, now: float) -> bool:
        """Whether this loss is one of few in the last minute."""
        full = len(self._told_at) == LOSSES_TOLD
        self._told = not full or now - self._told_at[0] >= REPEAT_S
        if self._told:
            self._told_at.append(now)
        return self._told

    def forget(self, source: str) -> None:
        """This source tries no more."""
        self._failing.discard(source)


class RareLog:
    """Lets a message through once a minute and counts what it held back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next = float("-inf")
        self._held = 0

    def warn(self, logger: logging.Logger, message: str) -> None:
        if self._clock.now() < self._next:
            self._held += 1
            return
        more = f" (and {self._held} others since the last such line)" if self._held else ""
        self._next, self._held = self._clock.now() + REPEAT_S, 0
        logger.warning("%s%s", message, more)
