"""The files of a node that somebody may delete or change while it runs: looked at every second, and put right.

A look is a few stat calls and two short files to read. What was put right is remembered beside what the keeper mends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tulle.node.api import Api
from tulle.node.footprint import Footprint
from tulle.node.state import NodeState
from tulle.worker.session import WorkerGone

log = logging.getLogger("tulle.node")

LOOK_S = 1.0
LOOKS_A_ROUND = 30
"""Sysctls are compared once in so many looks."""


class Upkeep:
    """`run` is its task. Raises AlreadyRunning where another tulled has taken a run directory that was emptied."""

    def __init__(
        self,
        node: NodeState,
        footprint: Footprint,
        api: Api,
        *,
        write_subnet_file: Callable[[], list[str]],
        set_sysctls: Callable[[], None],
    ) -> None:
        """`write_subnet_file` returns a line where it was not as it should be."""
        self._node = node
        self._footprint = footprint
        self._api = api
        self._write_subnet_file = write_subnet_file
        self._set_sysctls = set_sysctls

    async def run(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(LOOK_S)
            looks += 1
            if self._node.doing:
                continue
            if looks % LOOKS_A_ROUND == 0:
                self._set_sysctls()
            for line in await self.look():
                log.info("file-mended %s", line)
                self._node.keeper.remember([line])

    async def look(self) -> list[str]:
        """One look. Returns a line for each thing that was put right; what cannot be is tried at the next look."""
        lines: list[str] = []
        steps: tuple[Callable[[], Awaitable[list[str]]], ...] = (
            self._lock,
            self._record,
            self._socket,
            self._forwarder,
        )
        for step in steps:
            try:
                lines += await step()
            except (OSError, WorkerGone) as error:
                log.warning("file-not-mended error=%s (tried again)", error)
        return lines + self._write_subnet_file()

    async def _lock(self) -> list[str]:
        path = self._node.run_dir.hold()
        return [f"{path}: was not ours, held again"] if path else []

    async def _record(self) -> list[str]:
        if self._node.run_dir.record() is not None:
            return []
        self._footprint.write_record()
        return [f"{self._node.run_dir.path}: what `tulle down` must know was missing, written"]

    async def _socket(self) -> list[str]:
        if self._api.reachable():
            return []
        await self._api.start()
        return [f"{self._node.run_dir.api_socket}: was not ours, listening there again"]

    async def _forwarder(self) -> list[str]:
        """An unprivileged process cannot make its socket anew; its successor is given one."""
        lines = []
        for plane in self._node.planes:
            path = plane.socket_path
            if plane.wanted and not path.exists() and not plane.ready():
                old, new, _ = await plane.replace()
                lines.append(f"{path}: was missing, forwarder {old} handed over to {new}, which has one")
        return lines
