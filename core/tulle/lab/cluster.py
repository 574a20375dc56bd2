"""The class Lab: a cluster on one machine, brought up, looked at, disturbed and taken down. What `tulle lab`, the
tests, the benchmarks and the fault tools use.

A lab ends with the process that made it, also by kill -9, unless it is told to `detach`; then it is found again by
its name with `Lab.attach`.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import msgspec

from tulle.lab import build, measure, refusal, stores
from tulle.lab.daemons import READY_S, TULLED, Daemons
from tulle.lab.errors import LabError
from tulle.lab.launch import Launched, end, launch
from tulle.lab.plan import NO_BACKEND, SWITCH, LabFamily, NodeNet, Plan
from tulle.lab.registry import Registry, check_name

BUILD = (sys.executable, "-m", "tulle.lab.build")


class State(msgspec.Struct, frozen=True):
    """lab.json: what a lab is, for those who find it by name."""

    plan: Plan
    nets: Mapping[str, NodeNet] = {}


class Lab(Daemons):
    """See the module; a place is "n1" (a node), "n1/p2" (a pod) or "switch" (the wire between the nodes, where etcd
    runs). What fails raises LabError."""

    def __init__(
        self,
        *,
        nodes: int = 3,
        pods: int = 2,
        backend: str = "udp",
        backend_options: Mapping[str, Any] | None = None,
        engine: str = "auto",
        store: str = "sqlite",
        family: LabFamily = "4",
        tulled_args: Sequence[str] = (),
        underlay_mtu: int = 1500,
        name: str | None = None,
        tulled: Sequence[str] = TULLED,
        registry: Registry | None = None,
    ) -> None:
        """Nothing happens before `up`. `tulled` starts a node's daemon; without a name the lab makes one up."""
        plan = Plan(
            name=name or f"lab-{secrets.token_hex(4)}",
            nodes=nodes,
            pods=pods,
            backend=backend,
            backend_options=dict(backend_options or {}),
            engine=engine,
            store=store,
            family=family,
            tulled_args=list(tulled_args),
            underlay_mtu=underlay_mtu,
        )
        super().__init__(plan, tulled)
        self._registry = registry or Registry()
        self._launched: Launched | None = None

    @classmethod
    def attach(cls, name: str, *, registry: Registry | None = None) -> Self:
        """A lab that runs already. Raises LabError where none of that name does, or it is not whole."""
        lab = cls(name=name, registry=registry)
        lab._init = lab._registry.find(name)
        try:
            state = msgspec.json.decode((lab.directory / "lab.json").read_bytes(), type=State)
        except (OSError, msgspec.DecodeError) as error:
            advice = f"Take it down with: tulle lab down --name {name}"
            raise LabError(f"The lab {name!r} is not whole. {advice}") from error
        lab.plan, lab.nets = state.plan, state.nets
        return lab

    # Up and down

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self, said: Callable[[str], None] = lambda line: None) -> None:
        """Bring it all up and wait until every node is ready. `said` is told each step as it begins. Where one fails,
        nothing is left."""
        self.plan.check()
        check_name(self.plan.name)
        if self._init is not None:
            raise LabError(f"The lab {self.plan.name!r} is up already.")
        said("namespaces with a first process of their own")
        self._launched = launch(self.plan.name)
        try:
            self._registry.add(self.plan.name, self._launched.process)
            self._init = self._launched.process
            self._bring_up(said)
        except BaseException:
            self.down()
            raise

    def _bring_up(self, said: Callable[[str], None]) -> None:
        plan = self.plan
        said(f"a switch and {counted(plan.nodes, 'node')}")
        self._save()
        self._build("underlay")
        if plan.backend == NO_BACKEND:
            self.nets = plan.given_nets()
        else:
            said(f"the network config in a store ({plan.store})")
            stores.open_store(self)
            said("a tulled on each node")
            for node in plan.node_names:
                self.start_tulled(node)
            self.nets = self.wait_subnets()
        said(f"{counted(plan.pods, 'pod')} on each node")
        self._build("pods")
        self._save()
        if plan.backend != NO_BACKEND:
            self.wait_ready(READY_S)

    def down(self) -> None:
        """End everything and wait until it has ended. Nothing happens where the lab is down."""
        process = self._launched.process if self._launched else self._init
        if process is None:
            return
        end(process)
        self._registry.remove(self.plan.name, process)
        if self._launched is not None:
            self._launched.close()
        self._launched = self._init = None

    def detach(self) -> None:
        """Let the lab live on when this process ends."""
        if self._launched is not None:
            self._launched.detach()

    # Measurements, see `tulle.lab.measure`

    def ping(self, source: str, target: str, count: int = 1, *, family: int | None = None) -> int:
        """How many of `count` echo requests from one place to another were answered."""
        return measure.ping(self, source, [target], count, family)[target]

    def ping_all(self, count: int = 1, *, family: int | None = None) -> dict[tuple[str, str], int]:
        """The same for every pair of pods, both ways, all at once: answers by (from, to)."""
        return measure.ping_all(self, count, family)

    @contextmanager
    def flood(
        self,
        source: str,
        target: str,
        *,
        count: int = 20000,
        rate: float = 5000.0,
        size: int = 64,
        family: int | None = None,
    ) -> Iterator[measure.Flood]:
        """UDP datagrams of `size` bytes, `rate` a second; `finish()` of what it gives says what became of them.

        with lab.flood("n1/p1", "n2/p1") as flood:
            lab.kill_tulled("n1")
            assert flood.finish().lost == 0
        """
        with measure.flood(self, source, target, count=count, rate=rate, size=size, family=family) as running:
            yield running

    def transfer(
        self,
        source: str,
        target: str,
        total: int = 64 << 20,
        *,
        check: bool = True,
        family: int | None = None,
        timeout: float = 60.0,
    ) -> measure.StreamResult:
        """`total` bytes over one TCP stream; with `check` both ends hash them, which costs speed."""
        return measure.transfer(
            self, source, target, total=total, check=check, family=family, timeout=timeout
        )

    # Steps of `up`

    def _save(self) -> None:
        (self.directory / "lab.json").write_bytes(msgspec.json.encode(State(self.plan, self.nets)))

    def _build(self, what: str) -> None:
        """Run `tulle.lab.build` inside."""
        request = msgspec.json.encode(build.Request(self.plan, self.nets)).decode()
        done = self.run(SWITCH, [*BUILD, what], input=request, check=False)
        if done.returncode == 0:
            return
        if done.stdout:
            raise LabError(refusal.explain(msgspec.json.decode(done.stdout), refusal.read_facts()))
        raise LabError(f"The lab's network cannot be built:\n{done.stderr}")


def counted(number: int, noun: str) -> str:
    """ "1 node", "3 nodes"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
