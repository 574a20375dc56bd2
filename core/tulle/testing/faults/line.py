"""One direction of a line, and what the weather on it does to each packet. Pure: time and chance are arguments."""

from __future__ import annotations

import random

import msgspec


class Weather(msgspec.Struct, frozen=True):
    """Shares are from 0 to 1, of packets; times in seconds."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Up to so much more, evenly. It does not reorder: who is late makes those behind late too."""
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Held back by up to `behind_s`, while those behind overtake."""
    behind_s: float = 0.01

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it is a share, from 0 to 1")
        for name in ("delay_s", "jitter_s", "behind_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: nothing arrives before it is sent")


CALM = Weather()


class Line:
    """Remembers what is under way, so that packets keep their order unless the weather says otherwise."""

    def __init__(self, weather: Weather, rng: random.Random) -> None:
        self.weather = weather
        self._rng = rng
        self._last = float("-inf")

    def arrivals(self, now: float) -> list[float]:
        """When the copies of a packet that is sent now arrive: none where it is lost, two where it is duplicated."""
        weather, chance = self.weather, self._rng.random
        if chance() < weather.loss:
            return []
        copies = 2 if chance() < weather.duplicate else 1
        return [self._arrival(now) for _ in range(copies)]

    def _arrival(self, now: float) -> float:
        weather = self.weather
        due = now + weather.delay_s + self._rng.random() * weather.jitter_s
        if self._rng.random() < weather.reorder:
            return max(due, self._last) + self._rng.random() * weather.behind_s
        self._last = max(due, self._last)
        return self._last
