"""The keeper in a real network namespace: what is wanted comes, stays, and is put right when others change it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from tulle.kernel.monitor import Monitor
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import RTPROT_TULLE, Wanted, WantedAddress, WantedLink, WantedRoute
from tulle.node.keeper import KEPT_MENDS, Keeper

NETWORK = ip_network("10.42.0.0/16")
LINK = Wanted(
    links=(WantedLink("v0", mtu=1400, txqueuelen=1000),),
    addresses=(WantedAddress("v0", ip_interface("10.42.1.0/32")),),
)
ROUTE = Wanted(routes=(WantedRoute(NETWORK, "v0", "unicast", metric=0),))
COVER = Wanted(routes=(WantedRoute(NETWORK, None, "unreachable", metric=1_000_000),))


@pytest.fixture
def link(netns: Any) -> Any:
    """A namespace with a link of ours."""
    netns.ip("link add v0 type veth peer name v1")
    netns.ip("link set v0 alias tulle")
    netns.ip("link set v1 up")
    return netns


def kept(netns: Any, test: Callable[[Keeper], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Netlink() as netlink:
            async with asyncio.timeout(30):
                await test(Keeper(netlink, wall=lambda: 1_700_000_000.0))

    netns.run(run())


def routes(netns: Any) -> list[str]:
    shown = netns.ip(f"route show proto {RTPROT_TULLE}").splitlines()
    return sorted(" ".join(line.split()) for line in shown)


def test_the_parts_of_all_parties_are_set_together(link: Any) -> None:
    async def test(keeper: Keeper) -> None:
        keeper.want("node", COVER)
        keeper.want("dataplane", LINK)
        keeper.want("backend", ROUTE)
        report = await keeper.settle()
        assert report.problems == ()
        assert (await keeper.settle()).changed == ()
        assert list(keeper.mends) == []  # setting up is no mending

    kept(link, test)
    assert len(routes(link)) == 2


def test_a_part_that_is_wanted_no_more_goes_and_the_others_stay(link: Any) -> None:
    async def test(keeper: Keeper) -> None:
        keeper.want("dataplane", LINK)
        keeper.want("node", COVER)
        keeper.want("backend", ROUTE)
        await keeper.settle()
        keeper.want("backend", Wanted())
        await keeper.settle()
        assert list(keeper.mends) == []

    kept(link, test)
    assert [line.startswith("unreachable") for line in routes(link)] == [True]


def test_what_others_change_is_put_right_and_remembered(link: Any) -> None:
    async def test(keeper: Keeper) -> None:
        keeper.want("dataplane", LINK)
        keeper.want("backend", ROUTE)
        await keeper.settle()
        other = await asyncio.create_subprocess_exec("ip", "link", "set", "v0", "mtu", "1300")
        await other.wait()
        changed = (await keeper.settle()).changed
        assert changed == ("v0: mtu was 1300, set to 1400",)
        (mend,) = keeper.mends
        assert (mend.at, mend.line) == (1_700_000_000.0, changed[0])

    kept(link, test)


def test_the_kernels_word_wakes_it(link: Any) -> None:
    async def test(keeper: Keeper) -> None:
        keeper.want("dataplane", LINK)
        keeper.want("backend", ROUTE)
        await keeper.settle()
        monitor = Monitor(keeper.wake)
        running = asyncio.create_task(keeper.run())
        deleter = await asyncio.create_subprocess_exec("ip", "route", "del", str(NETWORK), "dev", "v0")
        await deleter.wait()
        while not keeper.mends:
            await asyncio.sleep(0.01)
        running.cancel()
        monitor.close()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert "was missing, added" in keeper.mends[0].line

    kept(link, test)
    assert len(routes(link)) == 1


def test_only_the_latest_mends_are_kept(link: Any) -> None:
    async def test(keeper: Keeper) -> None:
        number = 0

        async def made() -> list[str]:
            return [f"made {number}"]

        keeper.before_pass.append(made)
        for number in range(KEPT_MENDS + 10):  # noqa: B007  (read by made)
            await keeper.settle()
        assert [mend.line for mend in keeper.mends] == [f"made {one}" for one in range(10, KEPT_MENDS + 10)]

    kept(link, test)


def test_a_problem_is_said_once_and_kept_for_the_status(netns: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(keeper: Keeper) -> None:
        keeper.want("backend", ROUTE)
        await keeper.settle()
        await keeper.settle()
        assert [problem.code for problem in keeper.problems] == ["link-missing"]

    kept(netns, test)
    assert caplog.text.count("kernel-problem code=link-missing") == 1


def test_who_cannot_make_a_link_is_asked_again(netns: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(keeper: Keeper) -> None:
        asked = 0

        async def fails_once() -> list[str]:
            nonlocal asked
            asked += 1
            if asked == 1:
                keeper.wake()
                raise OSError(errno.EBUSY, "busy")
            return []

        keeper.before_pass.append(fails_once)
        keeper.want("node", COVER)
        running = asyncio.create_task(keeper.run())
        while asked < 2:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    kept(netns, test)
    assert "kernel-pass-failed" in caplog.text
