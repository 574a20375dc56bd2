"""`tulle-forwarder`: load, test, drop rights, then move packets until told to stop. tulled starts it.

Usage: tulle-forwarder --listen-fd N --engine MODULE:FACTORY --encapsulation MODULE:FACTORY --fingerprint TEXT
       [--with-parent PID]

It outlives tulled, whose successor adopts it. With `--with-parent` it ends with the process that started it: for
programs that have no successor.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import logging
import os
import secrets
import signal
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tulle import __version__
from tulle.contracts.encapsulation import Encapsulation, Paths
from tulle.contracts.engine import Engine, Local
from tulle.contracts.specs import load
from tulle.forward import messages
from tulle.forward.state import Changes, StateCopy
from tulle.worker import messages as worker
from tulle.worker import sandbox
from tulle.worker.serve import ControlServer

log = logging.getLogger("tulle.forwarder")

TUN, UDP = "tun:", "udp:"
"""How descriptors are named: "tun:tulle0:0", "udp:4:8285"."""

TOTALS = ("packets-", "bytes-", "drop-")
"""How the names of those among a peer's counters begin that add up."""


class Forwarder:
    """What this worker does with messages (`tulle.worker.serve.Handler`)."""

    def __init__(self, engine: Engine, fingerprint: str, notes: list[str]) -> None:
        self._engine = engine
        self._fingerprint = fingerprint
        self._notes = notes
        self._state = StateCopy()
        self._errors: dict[str, str] = {}
        """What the engine refused, by peer key ("" for the local part), until it is mended or taken back."""
        self._names: list[str] = []
        self._queues: list[int] = []
        self._sockets: list[socket.socket] = []
        self._before, self._carried = messages.Carry(counters={}), False
        """Totals of the one that we took over from."""
        self._released = False
        """Our sessions were given away: nothing of ours may be sealed any more."""

    def hello(self) -> worker.Hello:
        return worker.Hello(
            protocols=list(worker.PROTOCOLS),
            version=__version__,
            # A tulled that is new must not adopt one that has nothing left to work with.
            fingerprint=f"{self._fingerprint}, released" if self._released else self._fingerprint,
            pid=os.getpid(),
            generation=self._state.generation,
            descriptors=self._names,
            notes=self._notes,
        )

    def descriptors(self, names: Sequence[str], descriptors: Sequence[int]) -> None:
        old_queues, old_sockets = self._queues, self._sockets
        self._names, self._queues, self._sockets = list(names), [], []
        for name, descriptor in zip(names, descriptors, strict=True):
            if name.startswith(UDP):
                self._sockets.append(socket.socket(fileno=descriptor))
            else:
                self._queues.append(descriptor)
        self._engine.set_descriptors(self._queues, self._sockets)
        for queue in old_queues:
            os.close(queue)
        for sock in old_sockets:
            sock.close()

    def export(self) -> tuple[Sequence[str], Sequence[int]]:
        queues, sockets = iter(self._queues), iter(self._sockets)
        return self._names, [
            next(sockets).fileno() if name.startswith(UDP) else next(queues) for name in self._names
        ]

    def export_state(self) -> bytes:
        """What is not read yet is the successor's then: in the descriptors' queues it waits for that."""
        if self._released:
            return b""
        state = self._engine.export_state()
        if state:
            self._released = True
            self._engine.set_descriptors([], [])
        return state

    def import_state(self, data: bytes) -> None:
        self._engine.import_state(data)

    def message(self, message: Any) -> Any | None:
        if isinstance(message, messages.State):
            changes = self._state.take(message)
            if changes is None:
                return messages.Resend(self._state.generation)
            self._apply(changes)
            if not changes.complete:
                return None
            return messages.Applied(self._state.generation, list(self._errors.values()))
        if isinstance(message, messages.Carry):
            self._before, self._carried = message, True
            return self._stats(peers=True)
        if isinstance(message, messages.AskStats):
            return self._stats(message.peers)
        return None

    def _stats(self, peers: bool) -> messages.Stats:
        """With the totals of the one before; of peers that are still there."""
        counters = Counter(self._before.counters)
        counters.update(self._engine.counters())
        found: dict[str, dict[str, Any]] = {}
        for key, one in self._engine.peer_counters().items() if peers else ():
            before = self._before.peers.get(key, {})
            names = {name for name in (*one, *before) if name.startswith(TOTALS)}
            found[key] = {**one, **{name: before.get(name, 0) + one.get(name, 0) for name in names}}
        return messages.Stats(
            generation=self._state.generation,
            counters=dict(counters),
            peers=found,
            lost_devices=len(self._engine.lost_devices()),
            carried=self._carried,
        )

    def _apply(self, changes: Changes) -> None:
        if changes.local is not None or changes.options is not None:
            self._errors.pop("", None)
            try:
                self._engine.set_local(self._state.local or Local(), self._state.options or {})
            except ValueError as error:
                self._errors[""] = str(error)
        for key in changes.removed:
            self._errors.pop(key, None)
            self._engine.remove_peer(key)
        for peer in changes.upserts:
            self._errors.pop(peer.key, None)
            try:
                self._engine.set_peer(peer)
            except ValueError as error:
                self._errors[peer.key] = f"{peer.key}: {error}"
                self._engine.remove_peer(peer.key)  # nothing of it that is half set


class Loop(ControlServer):
    """The control side as the engine's loop sees it, and the word to tulled when a device is lost. `parent`: a pidfd,
    with whose process it ends."""

    def __init__(
        self, listener: socket.socket, forwarder: Forwarder, engine: Engine, parent: int | None = None
    ) -> None:
        super().__init__(listener, forwarder, messages.decode)
        self._engine = engine
        self._parent = parent
        self._told_lost = 0

    def filenos(self) -> Sequence[int]:
        found = super().filenos()
        return found if self._parent is None else (*found, self._parent)

    def handle(self, fileno: int) -> None:
        if fileno == self._parent:
            self.stopping = True
        else:
            super().handle(fileno)

    def idle(self, now: float) -> float | None:
        lost = len(self._engine.lost_devices())
        if lost != self._told_lost:
            self._told_lost = lost
            if lost:
                self.tell_master(messages.DeviceLost(lost))
        return super().idle(now)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    faulthandler.enable()  # a crash in C code leaves names of functions, and no core
    sandbox.set_process_name("tulle-forwarder")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        parent = None if arguments.with_parent is None else _pidfd_of_parent(arguments.with_parent)
    except ProcessLookupError:
        return  # it has ended already: nobody wants us
    listener = socket.socket(fileno=arguments.listen_fd)
    encapsulation_factory = load(arguments.encapsulation)

    def make_encapsulation(paths: Paths) -> Encapsulation:
        made: Encapsulation = encapsulation_factory(paths, secrets.token_bytes)
        return made

    engine: Engine = load(arguments.engine)(make_encapsulation)
    notes = [*engine.self_test(), *sandbox.lock_down()]
    forwarder = Forwarder(engine, arguments.fingerprint, notes)
    loop = Loop(listener, forwarder, engine, parent)
    signal.signal(signal.SIGTERM, lambda *_: setattr(loop, "stopping", True))
    # What is loaded stays: no collection walks it again, and none runs between packets without need.
    gc.collect()
    gc.freeze()
    engine.run(loop)


def _pidfd_of_parent(pid: int) -> int:
    """Readable when that process has ended (pidfd_open(2)). Raises ProcessLookupError where it has by now."""
    descriptor = os.pidfd_open(pid)
    # While it is our parent nobody else gets its number: what was opened before this is it.
    if os.getppid() != pid:
        raise ProcessLookupError(pid)
    return descriptor


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tulle-forwarder", description="Started by tulled; not for people.")
    parser.add_argument("name", nargs="?", help="ignored; shows in the process list")
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--encapsulation", required=True)
    parser.add_argument("--fingerprint", required=True)
    parser.add_argument("--with-parent", type=int, metavar="PID", help="end with this process, our parent")
    parser.add_argument("--run-dir", help="ignored; shows in the process list")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
