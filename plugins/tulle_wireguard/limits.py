"""How much a source may ask for, and how much work is done at a time: token buckets. Pure."""

from __future__ import annotations

from collections import OrderedDict

from tulle_wireguard.constants import (
    SOURCE_BURST,
    SOURCE_IPV6_BYTES,
    SOURCE_PER_S,
    SOURCES_KNOWN,
)


class Bucket:
    """`burst` at once, `per_s` in the long run. Full at the start."""

    __slots__ = ("_burst", "_per_s", "_tokens", "_when")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._when = now

    def take(self, now: float) -> bool:
        """One, if there is one."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def has_one(self, now: float) -> bool:
        """Whether `take` would give one."""
        self._fill(now)
        return self._tokens >= 1

    def give_back(self) -> None:
        """What was taken and not used."""
        self._tokens = min(self._burst, self._tokens + 1)

    def is_full(self, now: float) -> bool:
        self._fill(now)
        return self._tokens >= self._burst

    def next_at(self, now: float) -> float:
        """When there will be one: `now` where there is."""
        self._fill(now)
        return now + max(0.0, 1 - self._tokens) / self._per_s

    def _fill(self, now: float) -> None:
        if now > self._when:
            self._tokens = min(self._burst, self._tokens + (now - self._when) * self._per_s)
            self._when = now


class SourceLimits:
    """Handshakes a second from each address (IPv6: each /64). Paper section 5.3 has it behind mac2, so addresses are
    true ones."""

    def __init__(
        self, per_s: float = SOURCE_PER_S, burst: int = SOURCE_BURST, known: int = SOURCES_KNOWN
    ) -> None:
        self._per_s = per_s
        self._burst = burst
        self._known = known
        self._buckets: OrderedDict[bytes, Bucket] = OrderedDict()  # the one asked longest ago comes first

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, address: bytes, now: float) -> bool:
        """`address`: 4 or 16 bytes. Where the table is full of sources that ask all the time, new ones are refused."""
        source = address[:SOURCE_IPV6_BYTES] if len(address) == 16 else address
        bucket = self._buckets.get(source)
        if bucket is None:
            self._forget(now)
            if len(self._buckets) >= self._known:
                return False
            bucket = self._buckets[source] = Bucket(self._per_s, self._burst, now)
        self._buckets.move_to_end(source)
        return bucket.take(now)

    def _forget(self, now: float) -> None:
        """A full bucket is as good as none."""
        while self._buckets:
            source, bucket = next(iter(self._buckets.items()))
            if not bucket.is_full(now):
                return
            del self._buckets[source]
