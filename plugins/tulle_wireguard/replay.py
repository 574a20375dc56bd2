"""The anti-replay window: RFC 6479, a ring of words of which one is always being filled.

Asked after the tag was verified, never before: else anyone could move the window.
"""

from __future__ import annotations

from tulle_wireguard.constants import (
    REJECT_AFTER_MESSAGES,
    REPLAY_RING_BITS,
    REPLAY_WINDOW,
    REPLAY_WORD_BITS,
)

_WORDS = REPLAY_RING_BITS // REPLAY_WORD_BITS
_WORD_MASK = _WORDS - 1
_SHIFT = REPLAY_WORD_BITS.bit_length() - 1
_BIT_MASK = REPLAY_WORD_BITS - 1
_BITS = tuple(1 << bit for bit in range(REPLAY_WORD_BITS))


class ReplayWindow:
    """The counters that were seen: all that are more than 8128 behind the highest count as seen."""

    __slots__ = ("_ring", "highest")

    def __init__(self) -> None:
        self.highest = 0
        self._ring = [0] * _WORDS

    def accept(self, counter: int) -> bool:
        """True once for each counter in the window or ahead of it; it is then seen."""
        highest = self.highest
        word = counter >> _SHIFT
        if counter > highest:
            if counter >= REJECT_AFTER_MESSAGES:
                return False
            last = highest >> _SHIFT
            if word != last:
                for passed in range(last + 1, min(word, last + _WORDS) + 1):
                    self._ring[passed & _WORD_MASK] = 0
            self.highest = counter
        elif highest - counter > REPLAY_WINDOW:
            return False
        place, bit = word & _WORD_MASK, _BITS[counter & _BIT_MASK]
        seen = self._ring[place]
        if seen & bit:
            return False
        self._ring[place] = seen | bit
        return True

    def export(self) -> tuple[int, list[int]]:
        """(highest, words), for `restore` in another process."""
        return self.highest, list(self._ring)

    @classmethod
    def restore(cls, highest: int, words: list[int]) -> ReplayWindow:
        """What `export` gave. Raises ValueError where it is not that."""
        if len(words) != _WORDS:
            raise ValueError(f"a replay window has {_WORDS} words, this one {len(words)}")
        window = cls()
        window.highest, window._ring = highest, list(words)
        return window
