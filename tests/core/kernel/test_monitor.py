"""Waking on real changes of the kernel, by iproute2."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from tulle.kernel.monitor import Monitor

pytestmark = pytest.mark.lab

QUIET_S = 0.3


async def ip(words: str, lines: str = "") -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("ip", *words.split(), stdin=pipe)
    await process.communicate(lines.encode())
    assert process.returncode == 0


@pytest.mark.parametrize(
    "change",
    [
        "link set x0 mtu 1400",
        "link del x0",
        "address add 10.1.1.1/24 dev lo",
        "-6 address add fd00::1/64 dev lo",
        "route add blackhole 10.2.0.0/16",
        "-6 route add blackhole fd01::/64",
    ],
)
def test_a_change_wakes_within_200_ms(netns: Any, change: str) -> None:
    netns.ip("link add x0 type veth peer name x1")

    async def watch() -> float:
        woken = asyncio.Event()
        monitor = Monitor(woken.set)
        try:
            await asyncio.sleep(0)
            assert not woken.is_set()
            await ip(change)
            start = time.monotonic()
            await asyncio.wait_for(woken.wait(), 5)
            return time.monotonic() - start
        finally:
            monitor.close()

    assert netns.run(watch()) < 0.2


def test_a_burst_larger_than_the_buffer_wakes_at_most_every_50_ms_and_once_more_at_its_end(
    netns: Any,
) -> None:
    async def watch() -> tuple[list[float], float]:
        wakes: list[float] = []
        monitor = Monitor(lambda: wakes.append(time.monotonic()))
        lines = "".join(f"route add blackhole 11.{i >> 8}.{i & 255}.0/24\n" for i in range(20_000))
        try:
            await ip("-batch -", lines)
            end = time.monotonic()
            await asyncio.sleep(QUIET_S)
            count = len(wakes)
            await asyncio.sleep(QUIET_S)
            assert len(wakes) == count  # silence afterwards
            await ip("route add blackhole 12.0.0.0/8")
            await asyncio.sleep(QUIET_S)
            assert len(wakes) == count + 1  # and it still works
            return wakes[:count], end
        finally:
            monitor.close()

    wakes, end = netns.run(watch())
    gaps = [later - earlier for earlier, later in itertools.pairwise(wakes)]
    assert min(gaps) >= 0.045  # timers may fire a few ms early by the loop's clock resolution
    assert wakes[-1] > end - 0.06


def test_after_close_nothing_wakes(netns: Any) -> None:
    async def watch() -> int:
        wakes: list[None] = []
        monitor = Monitor(lambda: wakes.append(None))
        await ip("route add blackhole 10.2.0.0/16")
        await asyncio.sleep(QUIET_S)
        before = len(wakes)
        monitor.close()
        monitor.close()
        await ip("route add blackhole 10.3.0.0/16")
        await asyncio.sleep(QUIET_S)
        return len(wakes) - before

    assert netns.run(watch()) == 0
