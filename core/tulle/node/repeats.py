"""How often one thing may be said: at most so many times in a window, and then how many times it was not. Pure."""

from __future__ import annotations

import msgspec

Key = tuple[str, str]


class _Window(msgspec.Struct):
    start: float
    said: int = 0
    held: int = 0


class Repeats:
    """Counts by key. `now` is seconds of any clock that does not go back. A key whose window has ended is forgotten, so
    memory is bounded by the keys of one window."""

    def __init__(self, most: int, window_s: float) -> None:
        """`most` times in `window_s` seconds that begin with a key's first time."""
        self._most = most
        self._window_s = window_s
        self._windows: dict[Key, _Window] = {}

    def admit(self, key: Key, now: float) -> bool:
        """Whether it may be said now. Ask `ended` first: a window that is over would go on counting."""
        window = self._windows.setdefault(key, _Window(now))
        if window.said < self._most:
            window.said += 1
            return True
        window.held += 1
        return False

    def ended(self, now: float) -> list[tuple[Key, int]]:
        """The keys whose window is over and that were held back, with how many times; then forgets them."""
        # In the order of their start, as dicts keep it: the first that is not over ends the search.
        over = []
        for key, window in self._windows.items():
            if now - window.start < self._window_s:
                break
            over.append((key, window.held))
        for key, _ in over:
            del self._windows[key]
        return [(key, held) for key, held in over if held]

    def all(self) -> list[tuple[Key, int]]:
        """At the end: everything that is held back, whether its window is over or not; then forgets it."""
        found = [(key, window.held) for key, window in self._windows.items() if window.held]
        self._windows.clear()
        return found
