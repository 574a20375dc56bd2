"""Many nodes, many accidents: a state machine over real managers on a memory store.

What must hold at every moment: no two nodes that may believe in their subnets overlap; a node that could always
renew keeps its subnet; who is connected believes what the store says; nobody is lost for another reason.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tulle.contracts.store import NO_LEASE, Put
from tulle.lease.acquire import Times
from tulle.lease.errors import DuplicateNode, SubnetLost

DAY_S = 86_400
NAMES = st.sampled_from(["n1", "n2", "n3", "n4"])
ADDRESSES = {"n1": "192.0.2.1", "n2": "192.0.2.1", "n3": "192.0.2.3", "n4": "192.0.2.4"}  # n1, n2: one NAT
V6 = {name: f"2001:db8::{address[-1]}" for name, address in ADDRESSES.items()}
V4_CONFIG = {"Network": "10.5.0.0/28", "SubnetLen": 30}  # three subnets for four nodes
DUAL_CONFIG = {
    "Network": "10.5.0.0/26",
    "SubnetLen": 30,
    "EnableIPv6": True,
    "IPv6Network": "fd00:5::/60",
    "IPv6SubnetLen": 62,  # three here, so that pairs meet in one half
}
CALM_S = 15
"""Connected for so long, a node knows what the store knows: the longest back-off, and a refusal's wait."""


class Machine(RuleBasedStateMachine):
    """One cluster. `cluster_type` and `config` are set by the test."""

    cluster_type: type[Any]
    config: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.cluster = self.cluster_type()
        self.up: dict[str, Any] = {}  # the node that has the name last
        self.cut: dict[str, Any] = {}  # replaced nodes without a cable
        self.steady: dict[str, Any] = {}  # name -> the subnets of a node that could always renew
        self.calm_since: dict[Any, float] = {}
        self.ids = {name: f"id-of-{name}" for name in ADDRESSES}  # as in the state directories
        self.boots = dict.fromkeys(ADDRESSES, 0)
        self.do(self.cluster.configure(**self.config))

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def now(self) -> float:
        return self.cluster.clock.now()

    def nodes(self) -> list[Any]:
        return [*self.up.values(), *self.cut.values()]

    def begin(self, name: str) -> None:
        node = self.do(self.cluster.start(name, node_id=self.ids[name], boot_id=f"boot {self.boots[name]}"))
        public = [ADDRESSES[name], *([V6[name]] if "EnableIPv6" in self.config else [])]
        self.loop.call_soon(lambda: node.begin(*public))
        self.do(self.cluster.clock.settle())
        self.up[name] = node
        self.calm_since[node] = self.now()

    def disturb(self) -> None:
        """The store was not there for everybody."""
        for node in self.calm_since:
            self.calm_since[node] = self.now()

    @rule(name=NAMES)
    def start(self, name: str) -> None:
        if name not in self.up:
            self.begin(name)

    @rule(name=NAMES)
    def kill(self, name: str) -> None:
        node = self.up.pop(name, None)
        self.steady.pop(name, None)
        if node is not None:
            self.do(node.kill())

    @rule(name=NAMES)
    def kill_and_start_at_once(self, name: str) -> None:
        if name in self.up:
            had = self.steady.get(name)
            self.kill(name)
            self.begin(name)
            if had is not None and self.cluster.world.available:
                self.do(self.cluster.clock.advance(CALM_S))
                node = self.up[name]
                assert node.acquiring.done()
                assert node.acquiring.result() == had

    @rule(name=NAMES)
    def reboot(self, name: str) -> None:
        if name in self.up:
            self.boots[name] += 1
            self.kill(name)
            self.begin(name)

    @rule(name=NAMES)
    def replace(self, name: str) -> None:
        if name in self.up:
            self.ids[name] += "'"
            self.kill(name)
            self.begin(name)

    @rule(name=NAMES)
    def pull_the_cable(self, name: str) -> None:
        if name in self.up and name not in self.cut:
            node = self.up.pop(name)
            node.store._closed = True
            self.cluster.world.ring()
            self.steady.pop(name, None)
            self.cut[name] = node

    @rule(name=NAMES)
    def plug_in(self, name: str) -> None:
        node = self.cut.pop(name, None)
        if node is None:
            return
        node.store._closed = False
        self.calm_since[node] = self.now()
        if name in self.up:  # two machines with one name; one of them will stop
            self.steady.pop(name, None)
            self.do(self.cluster.clock.advance(120))
            stopped = [one for one in (node, self.up[name]) if self.failed(one)]
            if self.cluster.world.available:
                assert stopped, "two tulleds are alive under one name"
            survivor = self.up[name] if node in stopped else node
            for one in (node, self.up[name]):
                if one is not survivor:
                    self.do(one.kill())
            self.up[name] = survivor
            if survivor in stopped:
                self.kill(name)
        else:
            self.up[name] = node

    @rule(seconds=st.sampled_from([1, 5, 40, 400]))
    def time_passes(self, seconds: int) -> None:
        self.do(self.cluster.clock.advance(seconds))

    @rule()
    def all_sleep_for_a_day(self) -> None:
        self.steady.clear()
        self.do(self.cluster.clock.suspend(DAY_S + 10))
        self.disturb()

    @rule()
    def the_store_goes(self) -> None:
        self.cluster.world.available = False

    @rule()
    def the_store_comes_back(self) -> None:
        if not self.cluster.world.available:
            self.cluster.world.available = True
            self.disturb()

    @rule(count=st.integers(1, 4))
    def answers_get_lost(self, count: int) -> None:
        self.cluster.world.lose_answers = count

    @rule()
    def history_is_compacted(self) -> None:
        self.cluster.world.compact(self.cluster.world.revision)

    @precondition(lambda self: self.cluster.world.available)
    @rule(name=NAMES)
    def a_person_makes_a_reservation(self, name: str) -> None:
        node = self.up.get(name)
        holding = node.manager._holding if node is not None else None
        if holding is None or name not in self.steady:
            return
        key = next(key for key in holding.kept.records.wanted if "/subnets/" in key)
        kv = self.cluster.world.get(key)
        if kv is not None and kv.value == holding.kept.records.wanted[key]:
            self.cluster.world.lose_answers = 0
            self.do(self.cluster.other.transact([], [Put(key, kv.value, NO_LEASE)]))
            self.disturb()

    def failed(self, node: Any) -> BaseException | None:
        for task in (node.run, node.acquiring):
            if task is not None and task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        return None

    def believes(self, node: Any) -> bool:
        """It may think that its subnet is its own: it has one, has not heard of a loss, and its lease cannot
        have run out."""
        holding = node.manager._holding
        if holding is None or self.failed(node) or holding.kept.over:
            return False
        lasting = any("/subnets/" in key for key in holding.kept.records.lasting)
        return lasting or self.now() - holding.kept.renewed < DAY_S

    def calm(self, node: Any) -> bool:
        connected = self.cluster.world.available and not node.store._closed
        return connected and self.now() - self.calm_since[node] > CALM_S

    @invariant()
    def no_two_live_owners_overlap(self) -> None:
        believers = [node for node in self.nodes() if self.believes(node)]
        for one in believers:
            for other in believers:
                if one is other or one.name == other.name:  # a name's old machine hears of it when it is back
                    continue
                for ours in one.manager._holding.prefixes:
                    for theirs in other.manager._holding.prefixes:
                        assert ours.version != theirs.version or not ours.overlaps(theirs)

    @invariant()
    def who_is_connected_believes_what_the_store_says(self) -> None:
        for node in self.nodes():
            if not self.believes(node) or not self.calm(node):
                continue
            for key, known in node.manager._holding.kept.records.known.items():
                assert self.cluster.world.get(key) == known

    @invariant()
    def who_could_always_renew_keeps_its_subnet(self) -> None:
        for name, node in self.up.items():
            if self.believes(node):
                had = self.steady.setdefault(name, node.manager._holding.prefixes)
                assert node.manager._holding.prefixes == had
        for name in self.steady:
            assert self.failed(self.up[name]) is None, repr(self.failed(self.up[name]))

    @invariant()
    def a_node_ends_only_by_the_two_ways_to_lose(self) -> None:
        for name, node in list(self.up.items()):
            failure = self.failed(node)
            assert failure is None or isinstance(failure, DuplicateNode | SubnetLost), repr(failure)
            if failure is not None:
                self.kill(name)

    def teardown(self) -> None:
        async def end() -> None:
            for node in self.cluster.nodes:
                await node.kill()

        self.do(end())
        self.do(self.loop.shutdown_asyncgens())
        self.loop.close()


@pytest.mark.parametrize("config", [V4_CONFIG, DUAL_CONFIG], ids=["v4", "dual"])
def test_no_accident_gives_a_subnet_two_owners_or_takes_one_from_a_node_that_renews(
    cluster_type: type[Any], config: dict[str, Any]
) -> None:
    machine = type("Cluster", (Machine,), {"cluster_type": cluster_type, "config": config})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=checks
        ),
    )


@pytest.mark.parametrize(
    ("margin_s", "renew_s"), [(3600, 300), (60, 300), (DAY_S - 60, 15), (DAY_S - 1, 0.25)]
)
def test_the_time_between_renewals_leaves_room_for_some_failures(margin_s: int, renew_s: float) -> None:
    assert Times(DAY_S, margin_s).renew_s == renew_s
