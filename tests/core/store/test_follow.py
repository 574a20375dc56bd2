"""A folder of the store, as it is and whole after each change; other folders are none of its business."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from tulle.contracts.store import Delete, Put
from tulle.store.follow import follow


def test_the_whole_folder_comes_now_and_after_each_change(shelf: Any) -> None:
    async def run() -> list[Mapping[str, bytes]]:
        seen: list[Mapping[str, bytes]] = []
        await shelf.other.transact(
            [], [Put("a/peers/x", b"1"), Put("a/peersonal", b"no"), Put("b/peers/y", b"no")]
        )
        changes = [
            [Put("a/peers/y", b"2")],
            [Put("a/peersonal", b"still no"), Put("a/peers/x", b"3")],
            [Delete("a/peers/x"), Delete("a/peers/y")],
        ]
        folder = follow(shelf.client(), "a/peers/", clock=shelf.clock, rng=random.Random(1))
        async with asyncio.timeout(5), aclosing(folder) as found:
            async for one in found:
                seen.append(one)
                if not changes:
                    break
                await shelf.other.transact([], changes.pop(0))
        return seen

    assert asyncio.run(run()) == [
        {"x": b"1"},
        {"x": b"1", "y": b"2"},
        {"x": b"3", "y": b"2"},
        {},
    ]


def test_an_empty_folder_is_told_too_and_closing_leaves_no_task(shelf: Any) -> None:
    async def run() -> None:
        folder = follow(shelf.client(), "a/", clock=shelf.clock, rng=random.Random(1))
        async with asyncio.timeout(5):
            assert await anext(folder) == {}
            await folder.aclose()
        assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == []

    asyncio.run(run())
