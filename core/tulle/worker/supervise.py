"""The daemon's end: one worker runs, the right one, with our descriptors; found again after a restart, replaced when
it dies, when it is not what we would start, and when somebody asks for it.

The daemon gives the supervisor a function that runs while a session with one worker lasts; it ends when the worker is
gone, and the supervisor sees to the next. Of a worker that takes over from another, see `tulle.worker.handover`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tulle.worker import messages
from tulle.worker.frames import FrameError
from tulle.worker.handover import Handover
from tulle.worker.processes import kill, running, wait_for_end
from tulle.worker.session import GREETING_S, Session, WorkerGone, connect

__all__ = ["STABLE_S", "Session", "Supervisor", "WorkerGone", "connect"]

log = logging.getLogger("tulle.worker")

RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Pauses before the first, second, ... start after a failure; a worker that lived for STABLE_S begins anew."""
STABLE_S = 10.0
STOP_S = 2.0
"""For a worker to end after Stop; then it is killed."""
REPLACE_S = 30.0
"""For a successor to take over. It goes on trying after that; only who asked for it is told."""


class Supervisor:
    """See the module.

    `argv` starts a worker, with "{listen}" replaced by the number of its listening descriptor. `marks` are arguments
    that all workers of this place have, of whatever version, and no other process of this network namespace.
    `body(session, handover)` runs while a session lasts. Where `handover.pending`, it releases and confirms that.
    """

    def __init__(
        self,
        *,
        path: Path,
        argv: Sequence[str],
        marks: Sequence[str],
        fingerprint: str,
        decode: Callable[[bytes], Any],
        body: Callable[[Session, Handover], Awaitable[None]],
    ) -> None:
        self.path = path
        self.restarts = 0
        """Workers that were lost. One that handed over was not."""
        self.pid = 0
        self._fresh_path = path.with_name(path.name + ".new")
        self._argv = list(argv)
        self._marks = list(marks)
        self._fingerprint = fingerprint
        self._decode = decode
        self._body = body
        self._session: Session | None = None
        self._at_work: asyncio.Task[None] | None = None
        self._handover = Handover()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._starting = asyncio.Lock()
        self._replacing = asyncio.Lock()
        self._farewells: set[asyncio.Task[None]] = set()

    @property
    def handing_over(self) -> bool:
        """An old worker does the work until its successor can."""
        return self._handover.pending

    async def find(self, fetch: Callable[[Session], Awaitable[None]], greeting_s: float = GREETING_S) -> None:
        """Look for a worker that an earlier daemon started, and let `fetch` get its descriptors. Call it before `run`,
        so that nothing is opened anew that a running worker holds. A worker that does not answer is ended: it would
        keep the ports and its part of the packets."""
        session: Session | None = None
        try:
            session = await connect(self.path, self._decode, greeting_s)
            await fetch(session)
        except (WorkerGone, FrameError, OSError) as error:
            if self.path.exists():  # else it is a first start, and there is nothing to say
                log.info("worker-not-adopted error=%s", error)
            if session is not None:
                session.close()
            session = None
        await asyncio.to_thread(self._end_others, session.hello.pid if session is not None else 0)
        if session is None:
            return
        hello = session.hello
        if hello.fingerprint == self._fingerprint and max(hello.protocols) == max(messages.PROTOCOLS):
            self._session = session
        else:
            log.info(
                "worker-differs has=%r protocols=%s wanted=%r protocols=%s",
                *(hello.fingerprint, hello.protocols, self._fingerprint, list(messages.PROTOCOLS)),
            )
            self._handover = Handover(session, self._handed_over)

    async def run(self) -> None:
        """For ever. Cancelling it leaves the worker running, and an old one whose successor does not work yet too."""
        loop = asyncio.get_running_loop()
        failures = 0
        try:
            while True:
                begun = loop.time()
                if await self._one_life():
                    continue
                self.restarts += 1
                failures = 0 if loop.time() - begun > STABLE_S else failures + 1
                if failures > 1:
                    await asyncio.sleep(RETRY_S[min(failures - 2, len(RETRY_S) - 1)])
        finally:
            for session in (self._session, self._handover.old):
                if session is not None:
                    session.close()

    async def replace(self) -> tuple[int, int, float]:
        """Start a successor of the worker that works and let it take over. Returns the old one's process id, the new
        one's, and the seconds between the old one's release and the new one's word. Raises WorkerGone where that does
        not come about; the old one works on then, or was lost by itself."""
        async with self._replacing:
            old, at_work = self._session, self._at_work
            if old is None or at_work is None or self._handover.pending:
                raise WorkerGone("no worker is at work that could hand over; one is being started")
            successor = await self._start(take_path=False)
            if self._session is not old:
                successor.close()
                await self._end(successor.hello.pid)
                raise WorkerGone("the old worker ended while its successor was started; it has been replaced")
            self._session = successor
            handover = self._handover = Handover(old, self._handed_over)
            at_work.cancel()
            try:
                async with asyncio.timeout(REPLACE_S):
                    await handover.done.wait()
            except TimeoutError:
                raise WorkerGone(f"the successor has not taken over within {REPLACE_S:.0f} s") from None
            return old.hello.pid, self.pid, handover.seconds

    async def _one_life(self) -> bool:
        """Of one worker, with us. True: it was relieved and is about to hand over. False: it is gone."""
        session = self._session
        try:
            if session is None:
                session = self._session = await self._start(take_path=not self._handover.pending)
            self.pid = session.hello.pid
            adopted = self.pid not in self._children
            log.info("worker-running pid=%d adopted=%s runs=%r", self.pid, adopted, session.hello.fingerprint)
            await self._work(session)
        except (WorkerGone, FrameError, OSError) as error:
            if self._session is session:
                log.warning("worker-lost pid=%d error=%s", self.pid, error)
        except Exception:
            # A fault of ours. Ending here without a word would leave nobody to see to the next worker.
            log.exception("worker-not-served pid=%d: a fault of tulle's; it is replaced", self.pid)
        if self._session is not session:
            return True
        self._session, self.pid = None, 0
        if session is not None:
            session.close()
            await self._end(session.hello.pid)
        return False

    async def _work(self, session: Session) -> None:
        """The body, as a task of its own that `replace` may end."""
        task = self._at_work = asyncio.ensure_future(self._body(session, self._handover))
        try:
            await asyncio.wait({task})
        finally:
            self._at_work = None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _start(self, *, take_path: bool) -> Session:
        """Spawn a worker, detached, and greet it. With `take_path` its socket takes the path's place, in one step."""
        async with self._starting:
            self._fresh_path.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(str(self._fresh_path))
                self._fresh_path.chmod(0o600)
                listener.listen(8)
                pid = self._spawn(listener)
            try:
                session = await connect(self._fresh_path, self._decode)
                if take_path:
                    self._fresh_path.rename(self.path)
                return session
            except BaseException:
                await self._end(pid)
                raise

    def _spawn(self, listener: socket.socket) -> int:
        number = str(listener.fileno())
        argv = [one.replace("{listen}", number) for one in self._argv]
        errors = self.path.with_suffix(".log")
        errors.unlink(missing_ok=True)  # an old worker goes on writing to its own
        with errors.open("wb") as sink:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
                env={"LANG": "C.UTF-8"},
                cwd="/",
            )
        self._children[child.pid] = child
        return child.pid

    async def _end(self, pid: int) -> None:
        """See that a lost worker is really gone, and say what it said last."""
        kill(pid, self._fingerprint)
        child = self._children.get(pid)
        if child is None:
            return
        child.kill()
        await asyncio.to_thread(child.wait)
        self._children.pop(pid, None)
        words = ""
        with contextlib.suppress(OSError):
            words = self.path.with_suffix(".log").read_bytes()[-2000:].decode(errors="replace").strip()
        log.warning("worker-ended pid=%d status=%s %s", child.pid, child.returncode, words)

    def _end_others(self, spared: int) -> None:
        """Workers of this place that nobody speaks to: stopped, hung, or left over from a broken replacement."""
        for pid in list(running(self._marks)):
            if pid != spared and kill(pid, self._marks[0]):
                wait_for_end(pid, STOP_S)
                log.warning("worker-killed pid=%d: it did not answer, or there were two", pid)

    def _handed_over(self, handover: Handover) -> None:
        """The successor works: its socket takes the path's place, then the old one ends. In this order, so that the
        next daemon finds one that works, whenever this one dies."""
        old = handover.old
        assert old is not None
        with contextlib.suppress(OSError):
            self._fresh_path.rename(self.path)
        log.info("worker-handed-over from=%d to=%d ms=%.1f", old.hello.pid, self.pid, handover.seconds * 1000)
        with contextlib.suppress(WorkerGone):
            old.send(messages.Stop())
        old.close()
        farewell = asyncio.create_task(self._see_off(old.hello.pid), name=f"farewell-{old.hello.pid}")
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    async def _see_off(self, pid: int) -> None:
        """Wait for the end of a worker that was told to; it may be somebody else's child."""
        if not await asyncio.to_thread(wait_for_end, pid, STOP_S):
            kill(pid, self._marks[0])
            log.warning("worker-killed pid=%d: it did not end when it was told to", pid)
        child = self._children.get(pid)
        if child is not None:
            await asyncio.to_thread(child.wait)
            self._children.pop(pid, None)
