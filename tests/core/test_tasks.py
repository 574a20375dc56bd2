"""Several tasks as one: the first that ends ends all."""

from __future__ import annotations

import asyncio

import pytest

from tulle.tasks import first_to_end


class Part:
    """A coroutine that waits, and remembers how it ended."""

    def __init__(self) -> None:
        self.ended = ""

    async def run(self) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # tidying up takes a turn
            self.ended = "cancelled"
            raise


async def returns() -> str:
    await asyncio.sleep(0)
    return "done"


async def fails() -> None:
    await asyncio.sleep(0)
    raise KeyError("as it is")


def test_when_one_returns_the_others_are_cancelled_and_waited_for() -> None:
    one, other = Part(), Part()
    asyncio.run(first_to_end(one.run(), returns(), other.run()))
    assert (one.ended, other.ended) == ("cancelled", "cancelled")


def test_what_one_raises_is_raised_as_it_is() -> None:
    part = Part()
    with pytest.raises(KeyError, match="as it is"):
        asyncio.run(first_to_end(part.run(), fails()))
    assert part.ended == "cancelled"


def test_of_two_that_fail_together_one_is_raised_and_none_is_left_unheard() -> None:
    with pytest.raises(KeyError):
        asyncio.run(first_to_end(fails(), fails()))


def test_cancelling_the_whole_cancels_every_part() -> None:
    one, other = Part(), Part()

    async def run() -> None:
        whole = asyncio.create_task(first_to_end(one.run(), other.run()))
        await asyncio.sleep(0.01)
        whole.cancel()
        with pytest.raises(asyncio.CancelledError):
            await whole

    asyncio.run(run())
    assert (one.ended, other.ended) == ("cancelled", "cancelled")
