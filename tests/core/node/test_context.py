"""What a backend wants of the kernel comes, is kept beside what others want, and stays while the rest is not known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from typing import Any

import pytest

from tulle.contracts.backend import Report
from tulle.contracts.kernel import Wanted, WantedLink, WantedRoute
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import cover
from tulle.node.context import KeptKernel, follow_nothing
from tulle.node.keeper import Keeper

NETWORK = ip_network("10.42.0.0/16")
ROUTES = [WantedRoute(ip_network(f"10.42.{number}.0/24"), "v0", "unicast", 0) for number in range(4)]
LINK = (WantedLink("v0", 1400, None),)


def kept(netns: Any, test: Callable[[KeptKernel, Keeper], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Netlink() as netlink:
            keeper = Keeper(netlink)
            await test(KeptKernel(keeper, netlink), keeper)

    netns.ip("link add v0 type veth peer name v1")
    netns.run(run())


def seen(netns: Any) -> set[str]:
    return {one["dst"] for one in netns.json("route show proto 116 type unicast")}


def test_what_an_earlier_run_left_stays_until_all_is_known(netns: Any) -> None:
    async def first(kernel: KeptKernel, keeper: Keeper) -> None:
        await kernel.want(Wanted(LINK, routes=tuple(ROUTES[:2])))

    async def second(kernel: KeptKernel, keeper: Keeper) -> None:
        keeper.want("node", Wanted(routes=(cover(NETWORK),)))
        report = await kernel.want(Wanted(LINK, partial=True))
        assert report.changed == (f"route {cover(NETWORK).text}: was missing, added",)
        await keeper.settle()
        changed = (await kernel.want(Wanted(LINK, routes=tuple(ROUTES[1:3])))).changed
        assert changed == (
            f"route {ROUTES[2].text}: was missing, added",
            f"route {ROUTES[0].text}: is not wanted, removed",
        )

    kept(netns, first)
    netns.run(restarted(second))
    assert seen(netns) == {str(one.destination) for one in ROUTES[1:3]}


async def restarted(test: Callable[[KeptKernel, Keeper], Awaitable[None]]) -> None:
    async with Netlink() as netlink:
        keeper = Keeper(netlink)
        await test(KeptKernel(keeper, netlink), keeper)


def test_after_a_disturbance_the_kernel_is_looked_at_before_a_change(netns: Any) -> None:
    async def test(kernel: KeptKernel, keeper: Keeper) -> None:
        await kernel.want(Wanted(LINK, routes=tuple(ROUTES[:1])))
        async with Netlink() as other:
            await other.reconcile(Wanted(LINK))  # takes our route away
        keeper.wake()
        report = await kernel.want(Wanted(LINK, routes=tuple(ROUTES[:2])))
        assert len(report.changed) == 2
        assert await kernel.want(Wanted(LINK, routes=tuple(ROUTES[:2]))) == Report()

    kept(netns, test)
    assert seen(netns) == {str(one.destination) for one in ROUTES[:2]}


def test_a_link_can_be_asked_about(netns: Any) -> None:
    async def test(kernel: KeptKernel, keeper: Keeper) -> None:
        found = await kernel.link("v0")
        assert found is not None
        assert found.name == "v0"
        assert await kernel.link("absent") is None

    kept(netns, test)


def test_where_there_is_no_store_its_folders_are_empty_and_stay_so() -> None:
    async def run() -> None:
        folder = follow_nothing("anything")
        assert await anext(folder) == {}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(folder)

    asyncio.run(run())
