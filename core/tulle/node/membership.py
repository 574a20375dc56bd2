"""How this node belongs to the cluster: by leases in a store, or by the subnet manager of a plugin. Nothing else in
tulled asks which of the two it is.

`open_membership` makes it from the settings, `begin` once this machine's id is known; then `run` is its task.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from tulle.config.daemon import DaemonConfig
from tulle.config.errors import ConfigError
from tulle.contracts.backend import Address, Advertisement, JsonObject, Peer, Problem
from tulle.contracts.specs import StoreSpec
from tulle.contracts.store import Health, Store, StoreError, Unavailable
from tulle.contracts.subnet import Claim, DuplicateNode, SubnetLost, SubnetManager
from tulle.lease.drift import Drift
from tulle.lease.manager import LeaseManager
from tulle.lease.recall import recall
from tulle.net.prefix import Prefix
from tulle.node import identity
from tulle.node.answers import LeaseAnswer, MirrorAnswer
from tulle.node.context import follow_nothing
from tulle.node.storewatch import StoreWatch, cut_off
from tulle.plugins import PluginError, Plugins
from tulle.store.clock import SystemClock
from tulle.store.follow import follow
from tulle.tasks import first_to_end

T = TypeVar("T")

GIVE_BACK_S = 2.0
"""For the name to be given back at our end."""
ENDS = (ConfigError, DuplicateNode, SubnetLost, StoreError, OSError, ValueError)
"""What a subnet manager may end tulled by (contracts.subnet)."""


class ManagerFault(Exception):
    """A subnet manager did what its contract does not allow; `__cause__` is what it raised, if anything."""


class Place(Protocol):
    """What the cluster's truth lies in: a store, or a plugin's manager itself."""

    @property
    def location(self) -> str: ...

    async def health(self) -> Health: ...


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the manager says of itself."""

    mirrors: Mapping[str, MirrorAnswer] = {}
    lease: LeaseAnswer | None = None
    problems: Sequence[Problem] = ()
    detail: JsonObject = {}
    """All that has no place of its own."""


RECALL_S = 2.0
"""Between tries where the store does not answer."""


async def _nothing() -> None:
    return


async def _nobody_can_say(public: Sequence[Address]) -> Advertisement | None:
    return None


class Membership:
    """See the module. Before `begin` there is nothing to tell of and nothing to give back."""

    def __init__(
        self,
        name: str,
        place: Place,
        make: Callable[[str], SubnetManager],
        *,
        prefix: str = "",
        single_machine: bool = False,
        let_go: Callable[[], Awaitable[None]] = _nothing,
        recalling: Callable[[Sequence[Address]], Awaitable[Advertisement | None]] = _nobody_can_say,
        following: Callable[[str], AsyncGenerator[Mapping[str, bytes], None]] = follow_nothing,
    ) -> None:
        """`make` is given this machine's id. `prefix`: of the keys, where there are keys. `let_go`: of what the manager
        stands on."""
        self.name = name
        self.prefix = prefix
        self.single_machine = single_machine
        """Nodes on other machines cannot share it."""
        self.watch = StoreWatch(place, doubt=lambda: cut_off(self.told().mirrors))
        self._place = place
        self._make = make
        self._let_go = let_go
        self._recalling = recalling
        self.follow = following
        """A folder of the store, below `prefix` (`contracts.backend.BackendContext.follow`)."""
        self._manager: SubnetManager | None = None

    @property
    def location(self) -> str:
        return self._place.location

    async def begin(self, node_id: str) -> None:
        """Raises what `run` raises: what a store of this machine refuses now, nobody mends from elsewhere while we
        wait."""
        if self.single_machine:
            with contextlib.suppress(Unavailable):
                await self._place.health()
        self._manager = self._make(node_id)

    async def run(self) -> None:
        """Ends only by an exception: one of ENDS, or ManagerFault."""
        manager = self._begun
        with self._as_promised("run"):
            await first_to_end(manager.run(), self.watch.run())
        raise self._fault("run ended")

    async def network_config(self) -> bytes:
        manager = self._begun
        with self._as_promised("network_config"):
            return await manager.network_config()

    async def recall(self, public: Sequence[Address]) -> Advertisement | None:
        """What our lease said before; `public` are our addresses. Waits for a store that is away."""
        while True:
            try:
                return await self._recalling(public)
            except Unavailable:
                await asyncio.sleep(RECALL_S)

    async def acquire(self, claim: Claim) -> tuple[Prefix, ...]:
        manager = self._begun
        with self._as_promised("acquire"):
            return tuple(await manager.acquire(claim))

    async def update(self, claim: Claim) -> None:
        """Nothing happens before `begin`: what is claimed later is claimed whole."""
        if self._manager is not None:
            with self._as_promised("update"):
                await self._manager.update(claim)

    async def peers(self) -> AsyncGenerator[Sequence[Peer], None]:
        manager = self._begun
        with self._as_promised("peers"):
            async for peers in manager.peers():
                yield peers
        raise self._fault("peers ended")

    async def release(self) -> bool:
        """Whether there was something that could be given back."""
        if self._manager is None:
            return False
        with self._as_promised("release"):
            await self._manager.release()
        return True

    async def give_name_back(self) -> None:
        """So that nobody waits for it. Where that does not work in time it runs out by itself."""
        if self._manager is not None:
            with contextlib.suppress(TimeoutError, *ENDS, ManagerFault):
                async with asyncio.timeout(GIVE_BACK_S):
                    with self._as_promised("close"):
                        await self._manager.close()

    async def let_go(self) -> None:
        """When `run` has ended: of the store's connections and files."""
        await self._let_go()

    def told(self) -> Told:
        """A manager whose status cannot be had is no reason to say nothing of the rest."""
        if self._manager is None:
            return Told()
        try:
            return told(self._manager.status())
        except Exception as error:
            message = (
                f"its status failed ({type(error).__name__}: {error}); this is a fault of its code: report it"
            )
            return Told(problems=[Problem("subnet-manager-fault", self.name, message)])

    def problems(self) -> Iterator[Problem]:
        """What does not work now."""
        if self.watch.up is False:
            advice = "packets go on with what is known; see that the store runs and is reached from here"
            yield Problem("store-away", self.location, f"{self.watch.error}; {advice}")
        found = self.told()
        yield from found.problems
        for name, mirror in found.mirrors.items():
            if mirror.problems:
                advice = "`tulle leases` shows which" if self.prefix else f"look in {self.location}"
                message = f"{mirror.problems} keys make no sense and are left out: {advice}"
                yield Problem("store-unreadable", name, message)

    @property
    def _begun(self) -> SubnetManager:
        if self._manager is None:
            raise RuntimeError("a membership begins with `begin`")
        return self._manager

    @contextlib.contextmanager
    def _as_promised(self, method: str) -> Iterator[None]:
        try:
            yield
        except ENDS:
            raise
        except Exception as error:
            raise self._fault(f"{method} failed ({type(error).__name__}: {error})") from error

    def _fault(self, what: str) -> ManagerFault:
        advice = "this is a fault of its code: report it, or choose another --store"
        return ManagerFault(f"--store {self.name}: its {what}; {advice}")


def told(status: JsonObject) -> Told:
    """A manager's own words, those with a place of their own taken out where they have its shape. Pure."""
    rest = dict(status)

    def taken(word: str, shape: Any, otherwise: T) -> T:
        try:
            found: T = msgspec.convert(rest[word], shape)
        except (KeyError, msgspec.ValidationError):
            return otherwise
        del rest[word]
        return found

    mirrors: dict[str, MirrorAnswer] = taken("mirrors", dict[str, MirrorAnswer], {})
    lease = taken("lease", LeaseAnswer | None, None)
    problems: list[Problem] = taken("problems", list[Problem], [])
    drift = taken("config_drift", Drift | None, None)
    if drift is not None:
        problems.append(Problem(f"config-{drift.kind}", "the network config", drift.message))
    return Told(mirrors=mirrors, lease=lease, problems=problems, detail=rest)


def open_membership(config: DaemonConfig, plugins: Plugins) -> Membership:
    """Raises PluginError; reaches nothing yet."""
    spec = plugins.store_choice(config.store)
    try:
        made: Any = plugins.make(spec, config.store_settings)
    except ValueError as error:
        raise PluginError(f"--store {config.store}: {error}") from error
    if isinstance(spec, StoreSpec):
        return _on_store(config, made)
    if not isinstance(made, SubnetManager):
        raise PluginError(
            f"--store {config.store}: {spec.factory} made a thing of type {type(made).__name__}, which lacks a part "
            "of tulle.contracts.subnet.SubnetManager. This is a fault of the plugin: report it, or choose another."
        )
    return Membership(config.store, made, lambda node_id: made)


def _on_store(config: DaemonConfig, store: Store) -> Membership:
    def make(node_id: str) -> SubnetManager:
        return LeaseManager(
            store,
            config.prefix,
            node=config.node_name,
            node_id=node_id,
            boot_id=identity.boot_id(),
            renew_margin_s=int(config.renew_margin_s),
            clock=SystemClock(),
            rng=random.Random(),
        )

    return Membership(
        config.store,
        store,
        make,
        prefix=config.prefix,
        single_machine=store.single_machine,
        let_go=store.close,
        recalling=lambda public: recall(store, config.prefix, config.node_name, public),
        following=lambda folder: follow(
            store, f"{config.prefix.rstrip('/')}/{folder}/", clock=SystemClock(), rng=random.Random()
        ),
    )
