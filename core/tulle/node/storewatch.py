"""How the store is: asked every few seconds, for status and metrics. What the node needs of it goes other ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tulle.contracts.backend import JsonObject
from tulle.contracts.store import Store, StoreError

ASK_S = 10.0


class StoreWatch:
    """`run` is its task."""

    def __init__(self, store: Store, *, wall: Callable[[], float] = time.time) -> None:
        self.outages = 0
        self.latency_s = 0.0
        self.up: bool | None = None
        """None: not asked yet."""
        self._store = store
        self._wall = wall
        self._since = wall()
        self._endpoint = ""
        self._version = ""
        self.error = ""
        """Why it is away; "" while it is not."""

    async def run(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(ASK_S)

    async def ask(self) -> None:
        """One question."""
        try:
            health = await self._store.health()
        except StoreError as error:
            if self.up is not False:
                self.outages += 1
            self.error = str(error)
            self._turn(False)
            return
        self.latency_s, self._endpoint, self._version = health.latency_s, health.endpoint, health.version
        self.error = ""
        self._turn(True)

    def _turn(self, up: bool) -> None:
        if up != self.up:
            self.up = up
            self._since = self._wall()

    def status(self) -> JsonObject:
        """`since`: Unix time of the last change."""
        return {
            "state": {True: "connected", False: "away", None: "not asked yet"}[self.up],
            "since": self._since,
            "latency_s": self.latency_s,
            "endpoint": self._endpoint,
            "server_version": self._version,
            "outages": self.outages,
            "last_error": self.error,
        }
