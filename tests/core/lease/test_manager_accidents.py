"""Many nodes, many accidents: a state machine over real managers on a memory store, on a line that delays, reorders and
loses, with flannel among them; weeks in seconds.

What must hold at every moment: no two nodes that may believe in their subnets overlap; a node that could always
renew keeps its subnet, also through restarts; who is connected believes what the store says; nobody is lost for
another reason; flannel's leases are left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tulle.contracts.store import NO_LEASE, KeyValue, Put, absent
from tulle.lease.errors import DuplicateNode, SubnetLost
from tulle.net.prefix import parse_subnet_key

# The fixture `cluster_type` is in conftest.py: a memory world, a virtual clock, nodes.

DAY_S = 86_400
CALM_S = 60
"""Connected for so long, a node knows what the store knows: some lost answers, back-off and lagging watches."""
NAME_S = 120
"""A dead holder's name is free 30 s after its last request, which may arrive 40 s after its end; then the rest of the
way to a subnet."""
PREFIX = "/coreos.com/network/"

NAMES = ("n1", "n2", "n3", "n4", "n5")
PUBLIC = {"n1": 1, "n2": 1, "n3": 3, "n4": 4, "n5": 5}  # n1 and n2 are behind one NAT
PICK = st.integers(0, 4)
# Four subnets in each family, for five nodes and flannel.
V4 = {"Network": "10.5.0.0/27", "SubnetLen": 30, "SubnetMin": "10.5.0.4", "SubnetMax": "10.5.0.16"}
V6 = {"EnableIPv6": True, "IPv6Network": "fd00:5::/59", "IPv6SubnetLen": 62}
V6 |= {"IPv6SubnetMin": "fd00:5:0:4::", "IPv6SubnetMax": "fd00:5:0:10::"}
CONFIGS: dict[str, dict[str, Any]] = {"v4": V4, "dual": V4 | V6, "v6": {"EnableIPv4": False} | V6}
FLANNELS = {
    "v4": ("10.5.0.4-30", "10.5.0.8-30", "10.5.0.12-30", "10.5.0.16-30"),
    # Pairs that nobody else would make, so that leases meet in one half.
    "dual": ("10.5.0.4-30&fd00:5:0:8::-62", "10.5.0.8-30&fd00:5:0:4::-62", "10.5.0.12-30&fd00:5:0:c::-62"),
    "v6": ("fd00:5:0:4::-62", "fd00:5:0:8::-62", "fd00:5:0:c::-62", "fd00:5:0:10::-62"),
}


def failure_of(node: Any) -> BaseException | None:
    for task in (node.run, node.acquiring):
        if task is not None and task.done() and not task.cancelled() and task.exception() is not None:
            return task.exception()  # type: ignore[no-any-return]
    return None


def overlap(one: Iterable[Any], other: Iterable[Any]) -> bool:
    return any(a.version == b.version and a.overlaps(b) for a in one for b in other)


class Accidents(RuleBasedStateMachine):
    """One cluster. `cluster_type` and `family` are set by the test."""

    cluster_type: ClassVar[type[Any]]
    family: ClassVar[str]
    seen: ClassVar[Counter[str]]
    """What the invariants had to look at, so that the test can see that they had something."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.up: dict[str, Any] = {}  # the machine that had the name last
        self.cut: dict[str, Any] = {}  # machines without a cable
        self.steady: dict[str, Any] = {}  # name -> the subnets of a node that could always renew
        self.calm_since: dict[Any, float] = {}
        self.back_since: dict[Any, float] = {}  # when a machine got its cable back
        self.disks = dict.fromkeys(NAMES, 0)
        self.boots = dict.fromkeys(NAMES, 0)
        self.flannels: dict[str, KeyValue] = {}
        self.sleepers: set[Any] = set()
        """Whose leases ran out while they slept: they learn of it when they are awake and connected."""

    @initialize(seed=st.integers(0, 2**32), count=st.integers(2, 5))
    def some_nodes_run(self, seed: int, count: int) -> None:
        self.cluster = self.cluster_type(seed, slow=True)
        self.world = self.cluster.world
        self.do(self.cluster.configure(**CONFIGS[self.family]))
        for name in NAMES[:count]:
            self.begin(name)
        self.do(self.cluster.clock.advance(CALM_S))

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def now(self) -> float:
        return self.cluster.clock.now()  # type: ignore[no-any-return]

    def advance(self, seconds: float) -> None:
        self.do(self.cluster.clock.advance(seconds))

    def begin(self, name: str) -> None:
        node = self.do(
            self.cluster.start(name, node_id=f"{name} disk {self.disks[name]}", boot_id=f"{self.boots[name]}")
        )
        self.loop.call_soon(node.begin, f"192.0.2.{PUBLIC[name]}", f"2001:db8::{PUBLIC[name]}")
        self.do(self.cluster.clock.settle())
        self.up[name] = node
        self.calm_since[node] = self.now()

    def end(self, name: str) -> None:
        self.steady.pop(name, None)
        self.do(self.up.pop(name).kill())

    def disturb(self) -> None:
        """Everybody has something to find out."""
        for node in self.calm_since:
            self.calm_since[node] = self.now()

    # --- accidents ------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.up) < len(NAMES))
    @rule(pick=PICK)
    def start(self, pick: int) -> None:
        """Where a machine of that name lacks its cable, this is its clone or a new one."""
        down = [name for name in NAMES if name not in self.up]
        name = down[pick % len(down)]
        if name in self.cut:
            self.boots[name] += 1
            self.disks[name] += pick % 2
        self.begin(name)

    @precondition(lambda self: self.up)
    @rule(pick=PICK)
    def kill(self, pick: int) -> None:
        self.end(sorted(self.up)[pick % len(self.up)])

    @precondition(lambda self: self.up)
    @rule(
        pick=PICK,
        how=st.sampled_from(["killed", "rebooted", "on a new disk"]),
        seconds=st.sampled_from([0, 0.5, 20]),
    )
    def restart(self, pick: int, how: str, seconds: float) -> None:
        """Who comes back within the lease's time has its subnet."""
        name = sorted(self.up)[pick % len(self.up)]
        had = self.steady.get(name)
        self.end(name)
        self.advance(seconds)
        self.boots[name] += how == "rebooted"
        self.disks[name] += how == "on a new disk"
        self.begin(name)
        if had is not None:
            self.advance(NAME_S)
            acquiring = self.up[name].acquiring
            assert acquiring.done(), f"{name}, {how}, has nothing after {NAME_S} s"
            assert acquiring.result() == had
            self.seen["kept over a restart"] += 1

    @precondition(lambda self: self.up.keys() - self.cut.keys())
    @rule(pick=PICK)
    def pull_the_cable(self, pick: int) -> None:
        names = sorted(self.up.keys() - self.cut.keys())
        name = names[pick % len(names)]
        node = self.up.pop(name)
        node.store.available = False
        self.steady.pop(name, None)
        self.cut[name] = node

    @precondition(lambda self: self.cut)
    @rule(pick=PICK)
    def plug_in(self, pick: int) -> None:
        name = sorted(self.cut)[pick % len(self.cut)]
        node = self.cut.pop(name)
        node.store.available = True
        self.calm_since[node] = self.back_since[node] = self.now()
        other = self.up.get(name)
        if other is None:
            self.up[name] = node
            return
        self.steady.pop(name, None)  # two machines with one name; one of them will stop
        self.advance(2 * CALM_S)
        stopped = [one for one in (node, other) if failure_of(one)]
        assert stopped, "two tulleds are alive under one name"
        self.up[name] = other if stopped == [node] else node
        self.do((node if self.up[name] is other else other).kill())

    @rule(seconds=st.sampled_from([1, 5, 40, 400]))
    def time_passes(self, seconds: int) -> None:
        self.advance(seconds)

    @rule()
    def all_sleep_for_a_day(self) -> None:
        self.steady.clear()
        self.do(self.cluster.clock.suspend(DAY_S + 10))
        self.sleepers.update(self.nodes())
        self.disturb()

    @rule(seconds=st.sampled_from([1, 20, 400]), pick=PICK, restart=st.booleans())
    def the_store_is_away(self, seconds: int, pick: int, restart: bool) -> None:
        self.world.available = False
        self.advance(seconds)
        if restart and self.up:
            name = sorted(self.up)[pick % len(self.up)]
            self.end(name)
            self.begin(name)
        self.world.available = True
        self.disturb()

    @rule(count=st.integers(1, 4))
    def answers_get_lost(self, count: int) -> None:
        self.world.lose_answers = count
        self.disturb()

    @rule()
    def history_is_compacted(self) -> None:
        self.world.compact(self.world.revision)

    @precondition(lambda self: self.steady)
    @rule(pick=PICK)
    def a_person_makes_a_reservation(self, pick: int) -> None:
        kept = self.up[sorted(self.steady)[pick % len(self.steady)]].manager._holding.kept
        key = next(key for key in kept.records.wanted if "/subnets/" in key)
        kv = self.world.get(key)
        if kv is not None and kv.value == kept.records.wanted[key]:
            self.world.lose_answers = 0
            self.do(self.cluster.other.transact([], [Put(key, kv.value, NO_LEASE)]))
            self.disturb()

    @rule(pick=PICK, address=st.sampled_from([1, 3, 77]))
    def flannel_takes_a_subnet(self, pick: int, address: int) -> None:
        """On a machine of its own, or on one of ours before tulle; as flannel does it, if the key is absent."""
        key = f"{PREFIX}subnets/{FLANNELS[self.family][pick % len(FLANNELS[self.family])]}"
        held = [kv.key for kv in self.do(self.cluster.other.list(f"{PREFIX}subnets/")).items]
        if any(overlap(_prefixes(key), _prefixes(other)) for other in held):
            return
        value = f'{{"PublicIP":"192.0.2.{address}","PublicIPv6":"2001:db8::{address}"}}'.encode()
        self.world.lose_answers = 0
        lease = self.do(self.cluster.other.grant(DAY_S))
        self.do(self.cluster.other.transact([absent(key)], [Put(key, value, lease)]))
        if address == 77:
            kv = self.world.get(key)
            assert kv is not None
            self.flannels[key] = kv

    # --- what must hold -------------------------------------------------------------------------------------------

    def nodes(self) -> list[Any]:
        return [*self.up.values(), *self.cut.values()]

    def believes(self, node: Any) -> bool:
        """It may think that its subnet is its own: it has one, has not heard of a loss, and its lease cannot
        have run out."""
        holding = node.manager._holding
        if holding is None or failure_of(node) or holding.kept.over:
            return False
        if node in self.sleepers:
            if not self.calm(node):
                return False
            self.sleepers.discard(node)
        lasting = any("/subnets/" in key for key in holding.kept.records.lasting)
        return lasting or self.now() - holding.kept.renewed < DAY_S - CALM_S

    def calm(self, node: Any) -> bool:
        return node.store.available and self.now() - self.calm_since[node] > CALM_S

    @invariant()
    def no_two_live_owners_overlap(self) -> None:
        believers = [node for node in self.nodes() if self.believes(node)]
        for index, one in enumerate(believers):
            for other in believers[:index]:
                if one.name != other.name:  # a name's old machine hears of it when it is back
                    assert not overlap(one.manager._holding.prefixes, other.manager._holding.prefixes)
                    self.seen["pairs of owners"] += 1

    @invariant()
    def who_is_connected_believes_what_the_store_says(self) -> None:
        for node in self.nodes():
            if self.believes(node) and self.calm(node):
                for key, known in node.manager._holding.kept.records.known.items():
                    assert self.world.get(key) == known
                    self.seen["known keys"] += 1

    @invariant()
    def who_could_always_renew_keeps_its_subnet(self) -> None:
        for name, node in self.up.items():
            if self.believes(node) and self.now() - self.back_since.get(node, 0.0) > CALM_S:
                assert node.manager._holding.prefixes == self.steady.setdefault(
                    name, node.manager._holding.prefixes
                )
        for name in self.steady:
            assert failure_of(self.up[name]) is None, repr(failure_of(self.up[name]))
            self.seen["steady nodes"] += 1

    @invariant()
    def a_node_ends_only_by_the_two_ways_to_lose(self) -> None:
        for name, node in list(self.up.items()):
            failure = failure_of(node)
            assert failure is None or isinstance(failure, DuplicateNode | SubnetLost), repr(failure)
            if failure is not None:
                self.end(name)

    @invariant()
    def flannels_leases_are_left_alone(self) -> None:
        for key, kv in list(self.flannels.items()):
            if self.world.remaining(kv.lease) is None:
                del self.flannels[key]
            else:
                assert self.world.get(key) == kv
                self.seen["flannel's leases"] += 1

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            self.do(self.cluster.__aexit__())
        self.do(self.loop.shutdown_asyncgens())
        self.loop.close()


def _prefixes(key: str) -> Iterable[Any]:
    return parse_subnet_key(key.rpartition("/")[2]) or ()


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(
    ("examples", "steps"),
    [(25, 30), pytest.param(2000, 80, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])],
    ids=["short", "long"],
)
def test_no_accident_gives_a_subnet_two_owners_or_takes_one_from_a_node_that_renews(
    cluster_type: type[Any], family: str, examples: int, steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "tulle")  # a hundred thousand lines of weather
    seen: Counter[str] = Counter()
    machine = type("Cluster", (Accidents,), {"cluster_type": cluster_type, "family": family, "seen": seen})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks
        ),
    )
    print(dict(seen))
    for what in ("pairs of owners", "known keys", "steady nodes"):
        assert seen[what] >= 10, (
            f"of {what} there were only {seen[what]}: the accidents leave nothing to look at"
        )
