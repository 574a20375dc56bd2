"""One worker takes over from another: the order of the words, and how long it took.

1. the successor runs, is sandboxed and has its state; the old one works
2. `release`: the old one stops for good what must not run twice and gives its sessions away
3. the successor gets the sessions and the descriptors; what comes meanwhile waits in the descriptors' own queues
4. `confirm`: the successor works; the old one is told to end

An old one that has no sessions works on through all of this: then both read from the same descriptors for a moment.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from tulle.worker import messages
from tulle.worker.session import Session, WorkerGone

log = logging.getLogger("tulle.worker")

RELEASE_S = 1.0
"""For the old one's sessions; it answers within milliseconds. One that hangs is succeeded without them: no packet
passes while it is waited for."""


class Handover:
    """See the module. Successors that die before the end use the same one after each other."""

    def __init__(
        self, old: Session | None = None, finish: Callable[[Handover], None] = lambda _: None
    ) -> None:
        """`old` None: there is nobody to take over from. `finish` is called once, by `confirm`."""
        self.old = old
        self.released = False
        self.answers: list[Any] = []
        """What the old one said between its last question and its sessions."""
        self.seconds = 0.0
        """From the old one's release to the successor's word that it works: the longest that nobody can have worked."""
        self.done = asyncio.Event()
        self._finish = finish
        self._begun = 0.0

    @property
    def pending(self) -> bool:
        """The old one is still there: the successor must not get descriptors before `release`."""
        return self.old is not None and not self.done.is_set()

    async def release(self, question: Any = None) -> bytes:
        """The old one's sessions for the successor; b"" where there are none, and at every call but the first: a
        successor that got them and died may have used them. `question` is put to it just before; see `answers`."""
        if self.old is None or self.released:
            return b""
        self.released = True
        self._begun = time.monotonic()
        try:
            if question is not None:
                self.old.send(question)
            self.old.send(messages.ExportState())
            while not isinstance(said := await self.old.receive(RELEASE_S), messages.StateBlob):
                self.answers.append(said)
        except WorkerGone as error:
            log.warning("worker-sessions-lost pid=%d error=%s", self.old.hello.pid, error)
            return b""
        return said.data

    def confirm(self) -> None:
        """The successor works. Without a release before, or called again, it does nothing."""
        if self.pending and self.released:
            self.seconds = time.monotonic() - self._begun
            self.done.set()
            self._finish(self)
