"""Fuzzed bytes as what a target needs: numbers and pieces, bitten off from the front. When nothing is left, it is all
zeros and empty pieces, so that each input means something."""

from __future__ import annotations


class Bites:
    """See the module."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def number(self, size: int = 1) -> int:
        """Of so many bytes, the high one first."""
        return int.from_bytes(self.take(size).ljust(size, b"\0"))

    def take(self, size: int) -> bytes:
        """At most so many bytes."""
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    def piece(self) -> bytes:
        """As long as its first two bytes say."""
        return self.take(self.number(2))

    def pieces(self, limit: int) -> list[bytes]:
        """Those that are left, at most `limit`."""
        found: list[bytes] = []
        while self._data and len(found) < limit:
            found.append(self.piece())
        return found

    def rest(self) -> bytes:
        return self.take(len(self._data))


def pieces(*some: bytes) -> bytes:
    """What `Bites.pieces` gives back: for seeds."""
    return b"".join(len(one).to_bytes(2, "big") + one for one in some)
