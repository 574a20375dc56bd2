"""What carries the packets of an interface that stands alone: a TUN, UDP sockets of both families, and a forwarder.

The forwarder is the node's (`tulle.forward`), with the same sandbox, and is started anew when it dies. Unlike a node's
it ends with us, however we end: nobody else knows its settings. It holds copies of the descriptors; what needs rights
is done on ours. What is wanted is stated whole by `push`, and the difference goes to the forwarder.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tulle import __version__
from tulle.contracts.backend import DataPeer, Family, Listen
from tulle.contracts.engine import Local
from tulle.contracts.specs import EngineSpec
from tulle.forward import messages
from tulle.kernel.tun import Tun, open_tun
from tulle.kernel.udp import open_udp, set_options
from tulle.worker import messages as worker
from tulle.worker.handover import Handover
from tulle.worker.processes import kill, running, wait_for_end
from tulle.worker.session import Session, WorkerGone
from tulle.worker.supervise import Supervisor

log = logging.getLogger("tulle.wireguard")

ENCAPSULATION = "tulle_wireguard.encapsulation:WireGuard"
MARK = "tulle-forwarder"
"""The first of the arguments by which the forwarders of a directory are known among all processes."""
NO_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
"""What a kernel without IPv6 says to its sockets."""
APPLY_S = 5.0
"""For the forwarder to take a change: it needs milliseconds, unless it is just being started."""
STATS_S = 2.0
STOP_S = 2.0
PORT_TRIES = 50
"""A port that the kernel chose for one family may be in use in the other."""


class ForwarderState(msgspec.Struct, frozen=True, kw_only=True):
    """What the forwarder is to have: its state, whole."""

    local: Local
    options: Mapping[str, Any]
    peers: Mapping[str, DataPeer]


class Carrier:
    """See the module. `run_dir`: a directory of its own, for as long as it runs. To be made in the process that stays:
    the forwarder ends with that."""

    def __init__(self, name: str, run_dir: Path, engine: EngineSpec) -> None:
        self.port = 0
        self._name = name
        self._marks = (MARK, str(run_dir))
        self._tun: Tun | None = None
        self._sockets: dict[Family, socket.socket] = {}
        self._mark = 0
        self._wanted: ForwarderState | None = None
        self._generation = 0
        self._applied = 0
        self._errors: list[str] = []
        self._applied_bell = asyncio.Condition()
        self._session: Session | None = None
        self._asked: list[asyncio.Future[messages.Stats]] = []
        self._task: asyncio.Task[None] | None = None
        fingerprint = f"tulle {__version__}, engine {engine.name}, encapsulation wireguard, {name}"
        self._supervisor = Supervisor(
            path=run_dir / "forwarder.sock",
            argv=[
                *(sys.executable, "-m", "tulle.forward.main", MARK, "--listen-fd", "{listen}"),
                *("--engine", engine.factory, "--encapsulation", ENCAPSULATION),
                *("--fingerprint", fingerprint, "--run-dir", str(run_dir), "--with-parent", str(os.getpid())),
            ],
            marks=self._marks,
            fingerprint=fingerprint,
            decode=messages.decode,
            body=self._serve,
        )

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Make the device and its sockets, at a port that the kernel chooses. The forwarder starts beside. Raises
        OSError; its text says what to do."""
        await self._supervisor.find(
            _leave
        )  # one that does not end by itself, being stopped, would hold the device
        self._tun = open_tun(self._name)
        self.listen(0, 0)
        self._task = asyncio.create_task(self._supervisor.run(), name="forwarder-supervisor")

    @property
    def up_to_date(self) -> bool:
        """The forwarder runs and has all that was pushed."""
        return self._session is not None and self._applied >= self._generation

    def alive(self) -> bool:
        """False: somebody deleted the device."""
        return self._tun is not None and self._tun.alive()

    async def ended(self) -> None:
        """Does not return; raises what ends the supervision of the forwarder, which is a fault of ours."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def close(self) -> None:
        """The forwarder ends, and the device with it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for pid in list(running(self._marks)):
            kill(pid, MARK)
            await asyncio.to_thread(wait_for_end, pid, STOP_S)
        if self._tun is not None:
            self._tun.close()
        for one in self._sockets.values():
            one.close()

    # --- sockets --------------------------------------------------------------------------------------------------

    def listen(self, port: int, mark: int) -> None:
        """Receive at this port of both families, 0: at one that the kernel chooses; send with this mark, 0: none.
        Raises OSError, and nothing has changed then."""
        if port and port == self.port:
            self._set_mark(self._sockets, port, mark)
        else:
            opened, chosen = _open_both(port, mark)
            old, self._sockets, self.port = self._sockets, opened, chosen
            if self._session is not None:
                with contextlib.suppress(WorkerGone):
                    self._give_descriptors(self._session)
            for one in old.values():
                one.close()
        self._mark = mark

    def _set_mark(self, sockets: Mapping[Family, socket.socket], port: int, mark: int) -> None:
        """On sockets in use; the forwarder's copies are the same sockets."""
        try:
            for family, one in sockets.items():
                set_options(one, _listen(family, port, mark))
        except OSError:
            for family, one in sockets.items():
                with contextlib.suppress(OSError):
                    set_options(one, _listen(family, port, self._mark))
            raise

    def _give_descriptors(self, session: Session) -> None:
        assert self._tun is not None
        names = [f"tun:{self._name}:0", *(f"udp:{family}:{self.port}" for family in self._sockets)]
        session.send(
            worker.Descriptors(names), (self._tun.fileno(), *(one.fileno() for one in self._sockets.values()))
        )

    # --- state ----------------------------------------------------------------------------------------------------

    async def push(self, wanted: ForwarderState) -> list[str]:
        """All that is wanted from now on. Returns what the forwarder refused, when it has taken the rest; where it is
        only being started, after a few seconds."""
        before, base = self._wanted, self._generation
        if wanted == before:
            return self._errors
        self._wanted = wanted
        self._generation += 1
        generation = self._generation
        if self._session is not None:
            known = {} if before is None else before.peers
            changed = [peer for key, peer in wanted.peers.items() if known.get(key) != peer]
            removed = [key for key in known if key not in wanted.peers]
            with contextlib.suppress(WorkerGone):
                self._send(self._session, None if before is None else base, changed, removed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(APPLY_S), self._applied_bell:
                await self._applied_bell.wait_for(lambda: self._applied >= generation)
        return self._errors

    def _send(self, session: Session, base: int | None, peers: list[DataPeer], removed: list[str]) -> None:
        assert self._wanted is not None
        state = messages.State(
            base=base,
            generation=self._generation,
            local=self._wanted.local,
            options=dict(self._wanted.options),
            peers=peers,
            removed=removed,
        )
        for part in messages.parts(state):
            session.send(part)

    def _send_whole(self, session: Session) -> None:
        if self._wanted is not None:
            self._send(session, None, list(self._wanted.peers.values()), [])

    async def stats(self) -> messages.Stats | None:
        """As the forwarder counts at this moment; None where it does not answer."""
        if self._session is None:
            return None
        try:
            answer = self._ask(self._session)
        except WorkerGone:
            return None
        await asyncio.wait({answer}, timeout=STATS_S)
        return answer.result() if answer.done() and not answer.cancelled() else None

    def _ask(self, session: Session) -> asyncio.Future[messages.Stats]:
        """Raises WorkerGone."""
        session.send(messages.AskStats())
        answer: asyncio.Future[messages.Stats] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        return answer

    # --- the forwarder ----------------------------------------------------------------------------------------------

    async def _serve(self, session: Session, handover: Handover) -> None:
        """While one forwarder lives. Nobody replaces it: `handover` is never pending."""
        self._session, self._applied = session, 0
        try:
            self._send_whole(session)
            self._give_descriptors(session)
            while True:
                message = await session.next_within(STATS_S)
                if message is None:
                    self._ask(session)
                else:
                    await self._take(session, message)
        finally:
            self._session = None
            for one in self._asked:
                one.cancel()
            self._asked.clear()

    async def _take(self, session: Session, message: object) -> None:
        if isinstance(message, messages.Applied):
            self._errors = message.errors
            for error in message.errors:
                log.error("peer-refused %s", error)
            async with self._applied_bell:
                self._applied = message.generation
                self._applied_bell.notify_all()
        elif isinstance(message, messages.Resend):
            self._send_whole(session)
        elif isinstance(message, messages.Stats) and self._asked:
            answer = self._asked.pop(0)  # they come in the order of the questions
            if not answer.done():
                answer.set_result(message)


async def _leave(session: Session) -> None:
    """A forwarder whose settings nobody knows any more is not adopted."""
    raise WorkerGone("its interface has ended")


def _listen(family: Family, port: int, mark: int) -> Listen:
    """Outer packets may be fragmented, as those of other implementations: the caller sets the MTU of the device."""
    return Listen(family, port, fragment=True, tells=True, mark=mark)


def _open_both(port: int, mark: int) -> tuple[dict[Family, socket.socket], int]:
    """Sockets of both families at one port, and that port. Without IPv6 in this kernel: of IPv4 alone."""
    for attempt in range(PORT_TRIES):
        first = open_udp(_listen(4, port, mark))
        chosen: int = first.getsockname()[1]
        try:
            return {4: first, 6: open_udp(_listen(6, chosen, mark))}, chosen
        except OSError as error:
            if error.errno in NO_FAMILY:
                return {4: first}, chosen
            first.close()
            if port or error.errno != errno.EADDRINUSE or attempt == PORT_TRIES - 1:
                raise
    raise AssertionError("each attempt returns or raises")
