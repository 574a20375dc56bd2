"""The underlay while the node runs: what is lost stays in use, what changes is followed, what fails is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

import pytest

from tulle.contracts.backend import Report, Underlay
from tulle.kernel.underlay import NoUnderlay
from tulle.node.underlay import Follower, lost


def underlay(*addresses: str, link: str = "eth0", mtu: int = 1500) -> Underlay:
    by_family: Any = {one.version: one for one in map(ip_address, addresses)}
    return Underlay(link, 2, mtu, by_family, by_family, "the way out")


BOTH = underlay("192.0.2.1", "2001:db8::1")
ONLY_6 = underlay("2001:db8::1")


class Node:
    """What a follower sees of a node, and what it did with it."""

    def __init__(self, found: Underlay) -> None:
        self.underlay = found
        self.underlay_problem: Any = None
        self.peers = ()
        self.report = Report()
        self.keeper = self
        self.remembered: list[str] = []
        self.looks: list[Underlay | Exception] = []
        self.starts: list[Underlay] = []
        self.failures: list[Exception] = []
        self.told: list[bool] = []
        self.now = 100.0
        self.follower = Follower(self, self.look, self.tell, clock=lambda: self.now)  # type: ignore[arg-type]

    def remember(self, lines: list[str]) -> None:
        self.remembered += lines

    async def look(self) -> Underlay:
        found = self.looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def tell(self, others: bool) -> None:
        self.told.append(others)

    async def start(self, context: Any) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.starts.append(context.underlay)

    async def reconcile(self, peers: Any) -> Report:
        return Report(changed=("reconciled",))

    def see(self, *looks: Underlay | Exception) -> None:
        """Look as often as there is something to see."""
        self.looks += looks
        for _ in looks:
            asyncio.run(self.follower.look(self, self))  # type: ignore[arg-type]
            self.now += 5


def test_nothing_happens_where_nothing_changed() -> None:
    node = Node(BOTH)
    node.see(BOTH, BOTH)
    assert (node.starts, node.told, node.remembered, node.underlay_problem) == ([], [], [], None)


def test_a_new_address_is_followed_and_told_to_the_others() -> None:
    node = Node(BOTH)
    moved = underlay("192.0.2.77", "2001:db8::1")
    node.see(moved)
    assert (node.starts, node.told) == ([moved], [True])
    assert node.report.changed == ("reconciled",)


@pytest.mark.parametrize(
    "moved",
    [underlay("192.0.2.1", "2001:db8::1", mtu=1400), underlay("192.0.2.1", "2001:db8::1", link="eth1")],
)
def test_a_new_mtu_or_interface_is_followed_and_is_this_nodes_own_affair(moved: Underlay) -> None:
    node = Node(BOTH)
    node.see(moved)
    assert (node.starts, node.told) == ([moved], [False])


def test_an_address_of_a_further_family_is_taken_up() -> None:
    node = Node(ONLY_6)
    node.see(BOTH)
    assert (node.starts, node.told) == ([BOTH], [True])


@pytest.mark.parametrize("away", [ONLY_6, NoUnderlay("nothing fits")])
def test_what_is_lost_stays_in_use_and_its_return_is_remembered(away: Underlay | Exception) -> None:
    node = Node(BOTH)
    node.see(away, away)
    assert (node.starts, node.told, node.underlay) == ([], [], BOTH)
    assert node.underlay_problem.code == "underlay-lost"
    assert "eth0 has lost 192.0.2.1" in node.underlay_problem.message
    node.see(BOTH)
    assert (node.starts, node.underlay_problem) == ([], None)
    assert node.remembered == ["underlay: eth0 has 192.0.2.1, 2001:db8::1 again, after 10.0 s"]


def test_what_comes_back_in_another_way_is_followed() -> None:
    node = Node(BOTH)
    moved = underlay("192.0.2.9", "2001:db8::9")
    node.see(NoUnderlay("gone"), moved)
    assert (node.starts, node.told, node.underlay_problem) == ([moved], [True], None)


def test_what_the_backend_cannot_follow_is_tried_until_it_can() -> None:
    node = Node(BOTH)
    moved = underlay("192.0.2.9", "2001:db8::1")
    node.failures = [OSError("port in use")]
    with pytest.raises(OSError, match="port in use"):
        node.see(moved)
    node.looks.clear()
    assert (node.starts, node.told) == ([], [])
    node.see(moved)
    assert (node.starts, node.told) == ([moved], [True])


def test_its_task_looks_when_it_is_woken_and_says_what_failed() -> None:
    node = Node(BOTH)
    node.looks = [underlay("192.0.2.9", "2001:db8::1")]
    node.failures = [OSError("port in use")]

    async def run(until: Callable[[], bool]) -> None:
        task = asyncio.create_task(_run(node.follower.run(node, node)))  # type: ignore[arg-type]
        node.follower.wake()
        async with asyncio.timeout(10):
            while not until():
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(run(lambda: node.underlay_problem is not None))
    assert node.underlay_problem.message == "port in use (tried again every 2 s)"


async def _run(work: Awaitable[None]) -> None:
    await work


def test_the_families_that_were_there_and_are_not() -> None:
    assert lost(BOTH, BOTH) == []
    assert lost(BOTH, ONLY_6) == [4]
    assert lost(ONLY_6, BOTH) == []
    assert lost(BOTH, None) == [4, 6]
