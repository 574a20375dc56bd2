"""Events of the ruleset, and its generation."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.kernel.nft_watch import RulesetWatch, generation, parse_generation

WITHIN_S = 10.0
QUIET_S = 0.3


def nft(words: str) -> None:
    subprocess.run(["nft", *words.split()], check=True)


@pytest.mark.parametrize(
    "change", ["add table inet x", "flush ruleset", "add chain inet there c", "delete table inet there"]
)
def test_every_change_wakes_and_gives_another_generation(netns: Any, change: str) -> None:
    async def run() -> None:
        nft("add table inet there")
        rung = asyncio.Event()
        watch = RulesetWatch(rung.set)
        before = generation()
        try:
            nft(change)
            async with asyncio.timeout(WITHIN_S):
                await rung.wait()
            assert generation() != before
        finally:
            watch.close()

    netns.run(run())


def test_looking_wakes_nobody_and_leaves_the_generation(netns: Any) -> None:
    async def run() -> None:
        rung = asyncio.Event()
        watch = RulesetWatch(rung.set)
        before = generation()
        try:
            nft("list ruleset")
            await asyncio.sleep(QUIET_S)
            assert not rung.is_set()
            assert generation() == before
        finally:
            watch.close()

    netns.run(run())


def test_a_burst_wakes_more_than_once_and_much_less_than_each_time(netns: Any) -> None:
    async def run() -> int:
        rings = []
        watch = RulesetWatch(lambda: rings.append(1), debounce_s=0.2)
        try:
            for number in range(20):
                nft(f"add table inet t{number}")
                await asyncio.sleep(0)
            await asyncio.sleep(2 * QUIET_S)
        finally:
            watch.close()
        return len(rings)

    assert 1 <= netns.run(run()) < 20


def test_nothing_comes_after_closing_which_may_come_twice(netns: Any) -> None:
    async def run() -> None:
        rung = asyncio.Event()
        watch = RulesetWatch(rung.set)
        watch.close()
        watch.close()
        nft("add table inet x")
        await asyncio.sleep(QUIET_S)
        assert not rung.is_set()

    netns.run(run())


def test_an_error_of_the_kernel_is_raised_as_one() -> None:
    answer = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1)
    with pytest.raises(PermissionError):
        parse_generation(answer)


@given(st.binary(max_size=64))
def test_any_answer_is_a_number_or_an_error(answer: bytes) -> None:
    with contextlib.suppress(OSError):
        assert 0 <= parse_generation(answer) < 1 << 32
