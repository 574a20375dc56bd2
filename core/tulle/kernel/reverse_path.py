"""Where the reverse path filter is strict: looked at again and again, since the kernel tells nobody of a change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from tulle.kernel.sysctl import ROOT

STRICT = 1
"""A packet must come in by the link that its source would be answered over (ip-sysctl.rst, RFC 3704 section 2.2). IPv6
has no such setting."""
LOOK_S = 2.0


def strict_filters(links: Iterable[str], root: Path = ROOT) -> tuple[str, ...]:
    """Of these links those that filter strictly: the larger of `all` and the link's own value holds."""
    general = _value(root, "all") or 0
    own = ((one, _value(root, one)) for one in links)
    return tuple(one for one, value in own if value is not None and max(general, value) == STRICT)


def _value(root: Path, name: str) -> int | None:
    """None where there is no such link, or nobody may look."""
    with contextlib.suppress(OSError, ValueError):
        return int((root / "net/ipv4/conf" / name / "rp_filter").read_text())
    return None


class FilterWatch:
    """Calls `changed` in the running loop when other links than before filter strictly."""

    def __init__(self, changed: Callable[[], object], every_s: float = LOOK_S, root: Path = ROOT) -> None:
        self.strict: tuple[str, ...] = ()
        """As of the last look."""
        self._changed, self._every_s, self._root = changed, every_s, root
        self._links: tuple[str, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    def look_at(self, links: Iterable[str]) -> tuple[str, ...]:
        """From now on these. Returns which of them filter strictly."""
        self._links = tuple(links)
        self.strict = strict_filters(self._links, self._root)
        if self._timer is None:
            self._wait()
        return self.strict

    def close(self) -> None:
        """May be called twice, and before any look."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._again)

    def _again(self) -> None:
        found = strict_filters(self._links, self._root)
        self._wait()
        if found != self.strict:
            self.strict = found
            self._changed()
