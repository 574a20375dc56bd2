"""Thousands of entries through the one socket, against a real kernel."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network
from socket import AF_INET
from typing import Any, TypeVar

import pytest

from tulle.contracts.kernel import WantedRoute
from tulle.kernel import rtwire
from tulle.kernel.rtsocket import BATCH, RouteSocket

pytestmark = pytest.mark.lab

T = TypeVar("T")

MANY = 3 * BATCH + 1


def route(number: int) -> WantedRoute:
    return WantedRoute(IPv4Network((0x0A000000 + (number << 8), 24)), None, "unreachable", 7)


def used(netns: Any, work: Callable[[RouteSocket], Awaitable[T]]) -> T:
    async def run() -> T:
        opened = RouteSocket()
        try:
            return await work(opened)
        finally:
            opened.close()

    found: T = netns.run(run())
    return found


def test_each_change_has_its_own_answer_in_order(netns: Any) -> None:
    """Every third is refused: it is there already."""
    messages = [rtwire.add_route(route(number), 0) for number in range(MANY)]

    async def work(opened: RouteSocket) -> tuple[list[int], list[int], int]:
        first = await opened.apply(messages[::3])
        second = await opened.apply(messages)
        return first, second, len(await opened.dump(rtwire.dump_routes(4)))

    first, second, count = used(netns, work)
    assert set(first) == {0}
    assert second == [errno.EEXIST if number % 3 == 0 else 0 for number in range(MANY)]
    assert count == MANY
    assert len(netns.json(f"route show proto {rtwire.RTPROT_TULLE}")) == MANY


def test_a_whole_batch_of_errors_is_heard(netns: Any) -> None:
    """All in one receive buffer."""
    messages = [rtwire.remove_route(route(number)) for number in range(MANY)]

    async def work(opened: RouteSocket) -> list[int]:
        return await opened.apply(messages)

    assert used(netns, work) == [errno.ESRCH] * MANY


def test_nothing_to_do_is_nothing_done(netns: Any) -> None:
    async def work(opened: RouteSocket) -> list[int]:
        return await opened.apply([])

    assert used(netns, work) == []


def test_a_refused_dump_is_nothing_or_an_error_and_the_next_one_works(netns: Any) -> None:
    async def work(opened: RouteSocket) -> list[bytes]:
        assert await opened.dump(rtwire.dump_fdb(999), frozenset({errno.ENODEV, errno.EINVAL})) == []
        fdb = rtwire.dump_fdb(1)
        nonsense = rtwire.Message(
            fdb.type, fdb.flags, bytes((AF_INET,)) + fdb.body[1:]
        )  # no index may stand there
        with pytest.raises(OSError, match="rtnetlink dump"):
            await opened.dump(nonsense)
        return await opened.dump(rtwire.dump_routes(6))

    assert used(netns, work) == []


def test_closing_leaves_no_descriptor(netns: Any) -> None:
    async def work(opened: RouteSocket) -> None:
        await opened.dump(rtwire.dump_routes(4))

    before = len(os.listdir("/proc/self/fd"))
    used(netns, work)
    assert len(os.listdir("/proc/self/fd")) == before
