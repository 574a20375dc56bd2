"""How the store is (or what a plugin's subnet manager stands on), for status and metrics: asked every few seconds, and
what the mirrors notice before that.

What the node needs of the store goes other ways.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from tulle.contracts.backend import JsonObject
from tulle.contracts.store import Health, StoreError
from tulle.node.answers import MirrorAnswer

ASK_S = 10.0
ASK_AWAY_S = 2.0
"""While it is away."""
LOOK_S = 0.5
"""How often the mirrors are looked at; `status` looks, too."""
BLINK_S = 0.3
"""A watch that is only taken up again (after a compaction) is no outage."""

Doubt = Callable[[], str]
"""Why the mirrors are cut off from the store; "" while they are not."""


class Asked(Protocol):
    """A store, or a subnet manager."""

    async def health(self) -> Health:
        """Raises StoreError; an OSError of a plugin's manager says the same."""
        ...


class StoreWatch:
    """`run` is its task."""

    def __init__(
        self, store: Asked, *, doubt: Doubt = lambda: "", wall: Callable[[], float] = time.time
    ) -> None:
        self.outages = 0
        self.latency_s = 0.0
        self.up: bool | None = None
        """None: not asked yet."""
        self.error = ""
        """Why it is away; "" while it is not."""
        self._store = store
        self._doubt = doubt
        self._wall = wall
        self._since = wall()
        self._endpoint = ""
        self._version = ""
        self._doubted = False
        self._to_ask_s = 0.0

    async def run(self) -> None:
        while True:
            if self._to_ask_s <= 0:
                await self.ask()
                self._to_ask_s = ASK_S if self.up else ASK_AWAY_S
            await asyncio.sleep(LOOK_S)
            self._to_ask_s -= LOOK_S
            self._look()

    async def ask(self) -> None:
        """One question. The store is back when it answers and no mirror is cut off."""
        try:
            health = await self._store.health()
        except (StoreError, OSError) as error:
            self._turn_away(str(error))
            return
        self.latency_s, self._endpoint, self._version = health.latency_s, health.endpoint, health.version
        if not self._look():
            self.error = ""
            self._turn(True)

    def _look(self) -> str:
        """Why the mirrors are cut off. When they no longer are, the store is asked at once."""
        why = self._doubt()
        if why:
            self._doubted = True
            self._turn_away(why)
        elif self._doubted:
            self._doubted = False
            self._to_ask_s = 0.0
        return why

    def _turn_away(self, error: str) -> None:
        if self.up is not False:
            self.outages += 1
        self.error = error
        self._turn(False)

    def _turn(self, up: bool) -> None:
        if up != self.up:
            self.up = up
            self._since = self._wall()

    def status(self) -> JsonObject:
        """`since`: Unix time of the last change."""
        self._look()
        return {
            "state": {True: "connected", False: "away", None: "not asked yet"}[self.up],
            "since": self._since,
            "latency_s": self.latency_s,
            "endpoint": self._endpoint,
            "server_version": self._version,
            "outages": self.outages,
            "last_error": self.error,
        }


def cut_off(mirrors: Mapping[str, MirrorAnswer]) -> str:
    """Why one of these is away; "" where none is."""
    errors = (
        one.last_error or "its watch ended"
        for one in mirrors.values()
        if one.state == "away" and one.for_s >= BLINK_S
    )
    return next(errors, "")
