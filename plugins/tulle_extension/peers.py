"""Brings the peers' commands from what was done to what is wanted: at once where it can, later where one failed.

Runs of one peer come one after the other, those of different peers side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from tulle.contracts.backend import Problem
from tulle_extension.calls import Call, Done, Step, after, next_step, retry_after_s
from tulle_extension.run import Outcome

log = logging.getLogger("tulle.extension")

AT_A_TIME = 8
"""Runs side by side: enough for commands that wait, few enough for a small machine."""
SAVE_S = 0.1
"""How long a step may lie in memory alone. A step that a crash loses is done once more."""


class Failure(msgspec.Struct):
    """The last step of a peer failed."""

    error: str
    count: int
    due: float
    """When the step is tried again, on the clock of the peers' work."""


class PeerWork:
    """`want` states the whole; `settle` waits for the first try of everything. `stop` ends it; what is under way is
    killed and done again by the next tulled."""

    def __init__(
        self,
        run: Callable[[Step], Awaitable[Outcome]],
        save: Callable[[], None],
        changed: Callable[[], None],
        done: dict[str, Done],
    ) -> None:
        """`save` is called soon after `done` has changed; `changed` after a later try has ended, well or not."""
        self.done = done
        self.lines: list[str] = []
        """What has been done since they were taken."""
        self._run = run
        self._save = save
        self._changed = changed
        self._wanted: dict[str, Call] = {}
        self._names: dict[str, str] = {}
        self._failed: dict[str, Failure] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._saving: asyncio.TimerHandle | None = None
        self._retrying: asyncio.TimerHandle | None = None

    def want(self, wanted: Mapping[str, Call], names: Mapping[str, str]) -> None:
        """Whole, by lease key. A failure is forgotten where another call is wanted now."""
        for key in [key for key in self._failed if self._wanted.get(key) != wanted.get(key)]:
            del self._failed[key]
        self._wanted, self._names = dict(wanted), {**self._names, **names}
        self._go_on()

    async def settle(self, within_s: float) -> None:
        """Wait until nothing is under way, or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._running:
                    await asyncio.wait(list(self._running.values()))

    def problems(self) -> list[Problem]:
        now = asyncio.get_running_loop().time()
        return [
            Problem(
                "command-failed",
                self._names.get(key, key),
                f"{one.error}; it is run again in {max(0.0, one.due - now):.0f} s. What it printed is in tulled's log",
            )
            for key, one in self._failed.items()
        ]

    def added(self) -> set[str]:
        """Keys of the peers whose add command has succeeded with what is wanted now."""
        return {
            key
            for key, call in self._wanted.items()
            if (done := self.done.get(key)) is not None and done.added and done.call == call
        }

    async def stop(self) -> None:
        for timer in (self._saving, self._retrying):
            if timer is not None:
                timer.cancel()
        self._retrying = None
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._saving is not None:
            self._saving = None
            self._save()

    def _go_on(self) -> None:
        """Start what is due and not under way."""
        now = asyncio.get_running_loop().time()
        for key in {**self._wanted, **self.done}:
            failure = self._failed.get(key)
            due = failure is None or failure.due <= now
            if due and key not in self._running and next_step(self._wanted.get(key), self.done.get(key)):
                self._running[key] = asyncio.create_task(self._work(key), name=f"extension {key}")
        self._come_back()

    def _come_back(self) -> None:
        """When the next retry is due."""
        if self._retrying is not None:
            self._retrying.cancel()
        waiting = [one.due for key, one in self._failed.items() if key not in self._running]
        self._retrying = asyncio.get_running_loop().call_at(min(waiting), self._go_on) if waiting else None

    async def _work(self, key: str) -> None:
        """The steps of one peer, until none is left or one has failed."""
        again = key in self._failed
        try:
            async with self._turns:
                while step := next_step(self._wanted.get(key), self.done.get(key)):
                    if not await self._step(key, step):
                        break
        finally:
            del self._running[key]
        self._come_back()
        if again:
            self._changed()

    async def _step(self, key: str, step: Step) -> bool:
        """Returns whether the next step may follow at once."""
        if step.kind == "add":  # whatever becomes of it, it may have done something
            self._remember(key, Done(step.call, added=False))
        outcome = await self._run(step)
        wanted, done = self._wanted.get(key), self.done.get(key)
        failures = self._failed[key].count + 1 if key in self._failed else 1
        left = after(step, not outcome.error, wanted, done, failures)
        self._remember(key, left)
        name = self._names.get(key, key)
        if not outcome.error:
            self._failed.pop(key, None)
            self.lines.append(f"{name}: {step.kind} command has run for {key}")
            return True
        if step.kind == "remove" and left is None:
            self._failed.pop(key, None)
            log.error(
                "command-given-up peer=%s %s: what it was to take away may still be there",
                name,
                outcome.error,
            )
            return True
        if wanted is not None and wanted != step.call:
            return True  # it was for what is no longer wanted
        due = asyncio.get_running_loop().time() + retry_after_s(failures)
        self._failed[key] = Failure(outcome.error, failures, due)
        log.warning(
            "command-failed peer=%s %s (tried again in %.0f s)", name, outcome.error, retry_after_s(failures)
        )
        return False

    def _remember(self, key: str, done: Done | None) -> None:
        if done is None:
            self.done.pop(key, None)
        else:
            self.done[key] = done
        if key not in self._wanted and done is None:
            self._names.pop(key, None)
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_S, self._save_now)

    def _save_now(self) -> None:
        self._saving = None
        self._save()
