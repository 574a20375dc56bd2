"""The extension backend: the operator's commands at the turns of a node's life, and for each peer.

    PreStartupCommand -> lease -> PostStartupCommand -> SubnetAddCommand, SubnetRemoveCommand for each peer
    `tulle down`: SubnetRemoveCommand for each peer, ShutdownCommand

What has been run is kept in a state file, so that a restarted tulled runs only what is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tulle.contracts.backend import (
    Advertisement,
    BackendContext,
    Family,
    JsonObject,
    Owned,
    Peer,
    Problem,
    Report,
)
from tulle_extension import record as records
from tulle_extension.calls import MAX_DATA_BYTES, Call, Done, Step, addresses_environment, call_for
from tulle_extension.options import ExtensionOptions
from tulle_extension.peers import AT_A_TIME, PeerWork
from tulle_extension.record import Record
from tulle_extension.run import Outcome, run

log = logging.getLogger("tulle.extension")

REMOVE_ALL_S, SHUTDOWN_S = 18.0, 8.0
"""Of `tulle down`, which itself waits 30 s."""
SETTLE_S = 10.0
"""How long `reconcile` waits for commands: what takes longer goes on beside it."""


class ExtensionBackend:
    """See the module and `contracts.backend.Backend`."""

    def __init__(self, options: ExtensionOptions) -> None:
        self._options = options
        self._ctx: BackendContext | None = None
        self._state_dir: Path | None = None
        self._record = Record()
        self._work: PeerWork | None = None
        self._mtu = 0
        self._save_error = ""

    def overhead_bytes(self, outer: Family) -> int:
        return 0

    async def advertise(self, ctx: BackendContext) -> Advertisement:
        """Runs the PreStartupCommand, once a boot. Raises OSError where it fails."""
        options = self._options
        self._state_dir = ctx.state_dir
        self._record = records.load(ctx.state_dir, options, records.this_era())
        pre = records.text_hash(options.pre_startup_command) if options.pre_startup_command else ""
        if pre != self._record.pre:
            text = await self._pre_startup() if pre else None
            peers = records.to_be_added_again(self._record.peers)
            self._change(pre=pre, data_text=text, post="", peers=peers)
        return Advertisement(type="extension", data_text=self._record.data_text)

    async def _pre_startup(self) -> str:
        outcome = await self._run("PreStartupCommand", self._options.pre_startup_command, Call({}))
        if not outcome.error and (outcome.cut or len(outcome.output.encode()) > MAX_DATA_BYTES):
            outcome = Outcome(f"PreStartupCommand printed more than {MAX_DATA_BYTES} bytes")
        if outcome.error:
            raise OSError(
                f"{outcome.error}; without what it prints there can be no lease: mend the command "
                "(Backend.PreStartupCommand in the network config), and start tulled again"
            )
        return outcome.output

    async def start(self, ctx: BackendContext) -> None:
        """Runs the PostStartupCommand, again where what it is told has changed. Raises OSError where it fails."""
        self._ctx = ctx
        self._mtu = self._options.mtu or ctx.underlay.mtu
        if self._state_dir is None:
            self._state_dir = ctx.state_dir
            self._record = records.load(ctx.state_dir, self._options, records.this_era())
        command, call = self._options.post_startup_command, self._own_call(ctx)
        post = records.call_hash(command, call) if command else ""
        if post != self._record.post:
            outcome = await self._run("PostStartupCommand", command, call) if command else Outcome()
            if outcome.error:
                raise OSError(f"{outcome.error}; mend the command (Backend.PostStartupCommand)")
            self._change(post=post)
        if self._work is None:
            self._work = PeerWork(self._for_peer, self._save_peers, ctx.again, dict(self._record.peers))

    async def reconcile(self, peers: Sequence[Peer]) -> Report:
        assert self._work is not None, "start comes first"
        calls: dict[str, Call] = {}
        problems: list[Problem] = []
        for peer in peers:
            told = call_for(peer)
            if isinstance(told, Problem):
                problems.append(told)
            else:
                calls[peer.key] = told
        self._work.want(calls, {peer.key: peer.node for peer in peers})
        await self._work.settle(SETTLE_S)
        changed, self._work.lines = tuple(self._work.lines), []
        if self._save_error:
            problems.append(self._not_saved())
        return Report(changed, (*problems, *self._work.problems()))

    def mtu(self) -> int:
        return self._mtu

    def status(self) -> JsonObject:
        """No commands and no BackendData: they may hold secrets."""
        failing = [] if self._work is None else [problem.subject for problem in self._work.problems()]
        return {
            "mtu": self._mtu,
            "added_peers": 0 if self._work is None else len(self._work.added()),
            "failing_peers": failing,
        }

    def added(self) -> set[str]:
        """Keys of the peers for which the add command has succeeded."""
        return set() if self._work is None else self._work.added()

    def owned(self) -> Owned:
        """What commands make, only they know."""
        return Owned()

    async def stop(self, remove: bool) -> None:
        """False: nothing is run. True: the commands that take away what the others made."""
        work, self._work = self._work, None
        if work is not None:
            await work.stop()
            self._change(peers=dict(work.done))
        if remove and self._ctx is not None:
            await self._take_away(self._ctx, self._record.peers)
            records.forget(self._ctx.state_dir)
            self._ctx, self._record = None, Record()

    async def _take_away(self, ctx: BackendContext, peers: dict[str, Done]) -> None:
        """Each once, and not for ever: somebody waits for `tulle down`."""
        turns = asyncio.Semaphore(AT_A_TIME)

        async def one(done: Done) -> None:
            async with turns:
                _say_left((await self._for_peer(Step("remove", done.call))).error)

        try:
            async with asyncio.timeout(REMOVE_ALL_S):
                await asyncio.gather(*(one(done) for done in peers.values()))
        except TimeoutError:
            _say_left(f"SubnetRemoveCommand for {len(peers)} peers did not end within {REMOVE_ALL_S:g} s")
        if self._options.shutdown_command:
            limit_s = min(SHUTDOWN_S, self._options.command_timeout)
            call = self._own_call(ctx)
            outcome = await run(
                "ShutdownCommand", self._options.shutdown_command, call.environment, call.stdin, limit_s
            )
            _say_left(outcome.error)

    def _own_call(self, ctx: BackendContext) -> Call:
        public = [ctx.underlay.public[family] for family in sorted(ctx.underlay.public)]
        subnet = addresses_environment(ctx.prefixes, public, ("SUBNET", "IPV6_SUBNET"))
        network = addresses_environment(ctx.networks, (), ("NETWORK", "IPV6_NETWORK"))
        return Call({**network, **subnet}, self._record.data_text or "")

    async def _for_peer(self, step: Step) -> Outcome:
        options = self._options
        if step.kind == "add":
            name, command = "SubnetAddCommand", options.subnet_add_command
        else:
            name, command = "SubnetRemoveCommand", options.subnet_remove_command
        if not command:
            return Outcome()
        return await self._run(f"{name} for {step.call.environment['SUBNET']}", command, step.call)

    async def _run(self, name: str, command: str, call: Call) -> Outcome:
        log.debug("command-run %s", name)
        return await run(name, command, call.environment, call.stdin, self._options.command_timeout)

    def _save_peers(self) -> None:
        if self._work is not None:
            self._change(peers=dict(self._work.done))

    def _change(self, **fields: object) -> None:
        """A record that cannot be written costs commands that are run once more; it stops nothing."""
        self._record = msgspec.structs.replace(self._record, **fields)
        assert self._state_dir is not None
        self._save_error = _error_of(lambda: records.save(self._state_dir or Path(), self._record))

    def _not_saved(self) -> Problem:
        message = (
            f"cannot be written ({self._save_error}): the next tulled runs commands again that have run already; make "
            "the state directory writable"
        )
        return Problem("state-file", f"{self._state_dir}/{records.FILE}", message)


def _say_left(error: str) -> None:
    if error:
        log.error("command-given-up %s: what it was to take away may still be there", error)


def _error_of(action: Callable[[], None]) -> str:
    try:
        action()
    except OSError as error:
        if error.strerror:
            log.warning("extension-state-not-written error=%s", error)
        return error.strerror or str(error)
    return ""
