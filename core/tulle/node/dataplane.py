"""The data plane of user-space backends: a TUN, UDP sockets and the forwarder that moves packets between them.

What is wanted is stated by `configure` and `set_peers`. Three things are kept so, each by itself:
- the descriptors (`tulle.node.descriptors`); a deleted TUN is opened anew;
- the kernel's side of the TUN (address, routes), by the keeper;
- the forwarder: found or started by `tulle.worker.supervise`, given descriptors and state, asked for its counters.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Sequence
from ipaddress import ip_interface
from pathlib import Path

import msgspec

from tulle import __version__
from tulle.contracts.backend import DataPeer, Device, JsonObject, Listen, SourceCheck
from tulle.contracts.encapsulation import EncapsulationRef
from tulle.contracts.engine import Local
from tulle.contracts.specs import EncapsulationSpec, EngineSpec
from tulle.forward import messages
from tulle.kernel.state import ALIAS, Wanted, WantedAddress, WantedLink, WantedRoute
from tulle.net.prefix import Prefix
from tulle.node.descriptors import Descriptors
from tulle.node.keeper import Keeper
from tulle.node.rundir import RunDir
from tulle.plugins import PluginError, Plugins
from tulle.worker import messages as worker
from tulle.worker.handover import Handover
from tulle.worker.session import Session, WorkerGone
from tulle.worker.supervise import Supervisor

log = logging.getLogger("tulle.dataplane")

TX_QUEUE_PACKETS = 5000
"""Of the TUN: what it holds while no forwarder reads. 500 lost 566 of 3,600 packets/s in 0.3 s, 5,000 none (tried)."""
APPLY_S = 15.0
STATS_S = 1.0
PARTY = "dataplane"
"""Of the keeper; a second plane adds its name."""
FORWARDER = (sys.executable, "-m", "tulle.forward.main")
"""The program that `Supervisor` starts."""


class Forwarding(msgspec.Struct):
    """What is wanted of the forwarder."""

    device: Device
    listen: tuple[Listen, ...]
    encapsulation: EncapsulationRef
    local: Local


class UserSpace:
    """See the module; `contracts.backend.DataPlane` is what backends see of it. `name`: of a second one on this node,
    with a device and a forwarder of its own; the first has none."""

    def __init__(
        self,
        *,
        run_dir: RunDir,
        keeper: Keeper,
        plugins: Plugins,
        engine: str,
        local_prefixes: Sequence[Prefix],
        name: str = "",
    ) -> None:
        self.name = name
        self._run_dir = run_dir
        self._keeper = keeper
        self._plugins = plugins
        self._asked_engine = engine
        self._local_prefixes = tuple(local_prefixes)
        self._wanted: Forwarding | None = None
        self._peers: dict[str, DataPeer] = {}
        self._peers_stated = False
        self._generation = 0
        self._applied = 0
        self._apply_errors: list[str] = []
        self._applied_bell = asyncio.Condition()
        self._descriptors = Descriptors()
        self._spec: EngineSpec | None = None
        self._why = ""
        self._supervisor: Supervisor | None = None
        self._task: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._handover = Handover()
        self._held_back = False
        """The running forwarder gets no descriptors yet: an old one works with them."""
        self._stats: messages.Stats | None = None
        self._carries = False
        """The running forwarder goes on from the totals of the one before."""
        self._notes: list[str] = []

    # --- what backends call -------------------------------------------------------------------------------

    async def configure(
        self,
        device: Device,
        listen: Sequence[Listen],
        encapsulation: EncapsulationRef,
        *,
        source_check: SourceCheck = "strict",
    ) -> None:
        """See `contracts.backend.DataPlane`. Raises PluginError where no engine runs this encapsulation."""
        local = Local(
            prefixes=tuple(str(one) for one in (*self._local_prefixes, *device.addresses)),
            icmp_sources=tuple(str(one.network_address) for one in device.addresses),
            mtu=device.mtu,
            source_check=source_check,
        )
        self._wanted = Forwarding(device, tuple(listen), encapsulation, local)
        if self._task is None:
            await self._start(encapsulation)
        elif self._descriptors.want(device.name, listen) and self._session is not None:
            self._give_descriptors(self._session)
        self._keeper.want(f"{PARTY} {self.name}".strip(), kernel_part(device))
        await self._keeper.settle()
        generation = self._push()
        async with asyncio.timeout(APPLY_S), self._applied_bell:
            await self._applied_bell.wait_for(lambda: self._applied >= generation)

    async def set_peers(self, peers: Sequence[DataPeer]) -> None:
        wanted = {peer.key: peer for peer in peers}
        if not self._peers_stated:
            self._state_first_peers(wanted)
            return
        removed = [key for key in self._peers if key not in wanted]
        changed = [peer for key, peer in wanted.items() if self._peers.get(key) != peer]
        if not removed and not changed:
            return
        self._peers = wanted
        self._push(changed, removed)

    def _state_first_peers(self, wanted: dict[str, DataPeer]) -> None:
        """Whole, since an adopted forwarder has the peers of an earlier tulled."""
        self._peers_stated, self._peers = True, wanted
        self._generation += 1
        if self._session is not None:
            with contextlib.suppress(WorkerGone):
                self._send_state(self._session, None, list(wanted.values()), [])
                self._give_descriptors(self._session)

    def status(self) -> JsonObject:
        stats = self._stats
        return {
            "engine": self._spec.name if self._spec else "",
            "engine_because": self._why,
            "engine_notes": self._notes,
            "forwarder_pid": self._supervisor.pid if self._supervisor and self._session else 0,
            "forwarder_restarts": self._supervisor.restarts if self._supervisor else 0,
            "generation_wanted": self._generation,
            "generation_applied": self._applied,
            "errors": self._apply_errors,
            "counters": dict(stats.counters) if stats else {},
            "peers": stats.peers if stats else {},
        }

    @property
    def socket_path(self) -> Path:
        """Where its forwarder is reached."""
        return self._run_dir.forwarder(self.name).socket

    @property
    def wanted(self) -> bool:
        """Whether the backend has asked for a forwarder."""
        return self._wanted is not None

    def ready(self) -> list[str]:
        """Why packets do not pass; empty when they do."""
        reasons: list[str] = []
        if self._supervisor is not None and self._supervisor.handing_over:
            return reasons  # the old one works until the new one does
        if self._wanted is None:
            return reasons  # the kernel forwards: nobody wants a forwarder
        if self._session is None:
            reasons.append(f"{self._the_forwarder} is not running yet")
        elif self._applied < self._generation:
            reasons.append(f"{self._the_forwarder} has state {self._applied} of {self._generation}")
        return reasons

    @property
    def _the_forwarder(self) -> str:
        return (
            f"the forwarder of {self._wanted.device.name}" if self.name and self._wanted else "the forwarder"
        )

    async def replace(self) -> tuple[int, int, float]:
        """A new forwarder takes over from the running one, without losing a packet. Returns the process ids, old and
        new, and the seconds in which neither may have worked. Raises WorkerGone, with the reason for people."""
        if self._supervisor is None:
            reason = (
                "is not started yet; see `tulle status`"
                if self.wanted
                else "is not needed: the kernel forwards"
            )
            raise WorkerGone(f"this node's forwarder {reason}")
        return await self._supervisor.replace()

    # --- life ---------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Let the forwarder go on by itself."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def close(self) -> None:
        """Let go of the TUN and the sockets, after `stop`: with the forwarder's end they are gone."""
        self._descriptors.close()

    async def _start(self, encapsulation: EncapsulationRef) -> None:
        """Called again where it failed (a port in use): what it has found by then it keeps."""
        if self._supervisor is None:
            supervisor = self._make_supervisor(encapsulation)
            await supervisor.find(self._descriptors.fetch)
            self._supervisor = supervisor
        assert self._wanted is not None
        self._descriptors.want(self._wanted.device.name, self._wanted.listen)
        self._keeper.before_pass.append(self._reopen_device)
        self._task = asyncio.create_task(self._supervisor.run(), name="forwarder-supervisor")

    def _make_supervisor(self, encapsulation: EncapsulationRef) -> Supervisor:
        spec, self._why = choose_engine(self._plugins, self._asked_engine, encapsulation.name)
        self._spec = spec
        found = self._plugins.find("tulle_encapsulations", EncapsulationSpec, encapsulation.name, "Backend")
        fingerprint = f"tulle {__version__}, engine {spec.name}, encapsulation {found.name}"
        place = self._run_dir.forwarder(self.name)
        name, run_dir = place.marks
        return Supervisor(
            path=place.socket,
            argv=[
                *(*FORWARDER, name, "--listen-fd", "{listen}"),
                *("--engine", spec.factory, "--encapsulation", found.factory),
                *("--fingerprint", fingerprint, "--run-dir", run_dir),
            ],
            marks=place.marks,
            fingerprint=fingerprint,
            decode=messages.decode,
            body=self._serve,
        )

    async def _reopen_device(self) -> list[str]:
        """Before each pass of the keeper: a TUN that was deleted by somebody comes back under the same name."""
        wanted = self._wanted
        if wanted is None or self._descriptors.device_lives():
            return []
        lines = self._descriptors.want(wanted.device.name, wanted.listen)
        if self._session is not None:
            with contextlib.suppress(WorkerGone):
                self._give_descriptors(self._session)
        return [line + " again, it had been deleted" for line in lines]

    def _give_descriptors(self, session: Session) -> None:
        if not self._held_back:
            self._descriptors.give(session)

    # --- the forwarder ----------------------------------------------------------------------------------------

    async def _serve(self, session: Session, handover: Handover) -> None:
        """While one forwarder lives: bring it to the wanted state, then ask for its counters."""
        self._notes = session.hello.notes
        self._session, self._handover, self._held_back = session, handover, handover.pending
        self._applied, self._carries = 0, False
        try:
            self._send_state(session, None, list(self._peers.values()), [])
            # A forwarder that knew no peers would throw away what it reads; in the TUN's queue it waits.
            if self._peers_stated or session.hello.descriptors:
                self._give_descriptors(session)
            session.send(messages.AskStats())  # one that is adopted has counted for long
            asked = time.monotonic()
            while True:
                message = await session.next_within(STATS_S)
                if message is not None:
                    await self._take(session, message)
                if self._held_back and self._peers_stated and self._applied >= self._generation:
                    await self._take_over(session, handover)
                if time.monotonic() - asked >= STATS_S:
                    session.send(messages.AskStats())
                    asked = time.monotonic()
        finally:
            self._session = None

    async def _take_over(self, session: Session, handover: Handover) -> None:
        """The new forwarder is what it is to be: now the old one lets go."""
        sessions = await handover.release(messages.AskStats())
        self._held_back = False
        if sessions:
            session.send(worker.StateBlob(sessions))
        self._give_descriptors(session)
        for said in handover.answers:  # what nobody waits for comes last
            if isinstance(said, messages.Stats):
                session.send(messages.Carry(counters=said.counters, peers=said.peers))
                self._carries = True
        if session.protocol < worker.HOLDING_SINCE:
            handover.confirm()

    async def _take(self, session: Session, message: object) -> None:
        if isinstance(message, messages.Applied):
            self._apply_errors = message.errors
            for error in message.errors:
                log.warning("peer-refused %s", error)
            async with self._applied_bell:
                self._applied = message.generation
                self._applied_bell.notify_all()
        elif isinstance(message, messages.Resend):
            self._send_state(session, None, list(self._peers.values()), [])
        elif isinstance(message, messages.Stats):
            # One that has not begun has nothing to tell, and what it was asked before that comes late.
            if not self._held_back and message.carried >= self._carries:
                self._stats = message
        elif isinstance(message, worker.Holding):
            self._handover.confirm()
        elif isinstance(message, messages.DeviceLost):
            self._keeper.wake()

    def _push(self, changed: Sequence[DataPeer] = (), removed: Sequence[str] = ()) -> int:
        """A new generation, as a difference, to the forwarder that runs. Returns its number."""
        base = self._generation
        self._generation += 1
        if self._session is not None:
            with contextlib.suppress(WorkerGone):
                self._send_state(self._session, base, changed, removed)
        return self._generation

    def _send_state(
        self, session: Session, base: int | None, peers: Sequence[DataPeer], removed: Sequence[str]
    ) -> None:
        assert self._wanted is not None
        state = messages.State(
            base=base,
            generation=self._generation,
            local=self._wanted.local,
            options=dict(self._wanted.encapsulation.options),
            peers=list(peers),
            removed=list(removed),
            keep_peers=not self._peers_stated,
        )
        for part in messages.parts(state):
            session.send(part)
        log.debug(
            "state-sent generation=%d base=%s peers=%d removed=%d",
            self._generation,
            base,
            len(peers),
            len(removed),
        )


def choose_engine(plugins: Plugins, asked: str, encapsulation: str) -> tuple[EngineSpec, str]:
    """The engine and why. Raises PluginError where the asked one is not there or none runs the encapsulation."""
    if asked != "auto":
        spec = plugins.find("tulle_engines", EngineSpec, asked, "--engine")
        if spec.encapsulations is not None and encapsulation not in spec.encapsulations:
            known = ", ".join(spec.encapsulations)
            raise PluginError(
                f"--engine: {asked} cannot run encapsulation {encapsulation}, only {known}; use auto"
            )
        return spec, "asked for by --engine"
    engines = plugins.engines()
    for spec in engines:
        if spec.encapsulations is None or encapsulation in spec.encapsulations:
            better = [one.name for one in engines if one.rank > spec.rank]
            only = "the only one installed" if len(engines) == 1 else "the fastest that is installed"
            return spec, f"{', '.join(better)} cannot run {encapsulation}" if better else only
    raise PluginError(f"no engine runs encapsulation {encapsulation}; see `tulle plugins list`")


def kernel_part(device: Device) -> Wanted:
    """The kernel's side of a TUN."""
    return Wanted(
        links=(WantedLink(device.name, mtu=device.mtu, txqueuelen=TX_QUEUE_PACKETS, up=True, alias=ALIAS),),
        addresses=tuple(WantedAddress(device.name, ip_interface(str(one))) for one in device.addresses),
        routes=tuple(WantedRoute(one, device.name, "unicast", metric=0) for one in device.routes),
    )
