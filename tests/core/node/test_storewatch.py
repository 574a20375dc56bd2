"""How the store is: by a question now and then, and at once by what the mirrors notice."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from tulle.contracts.store import Health, Unavailable
from tulle.node import storewatch
from tulle.node.answers import MirrorAnswer
from tulle.node.storewatch import BLINK_S, StoreWatch, cut_off
from tulle_memory.store import MemoryStore


class Answering(MemoryStore):
    """A store whose answer to the one question is the test's."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal = ""
        self.asked = 0

    async def health(self) -> Health:
        self.asked += 1
        if self.refusal:
            raise Unavailable(self.refusal)
        return Health("here", 0.25, "1")


class Case:
    def __init__(self) -> None:
        self.store, self.doubt, self.now = Answering(), "", 100.0
        self.watch = StoreWatch(self.store, doubt=lambda: self.doubt, wall=lambda: self.now)

    def state(self) -> tuple[str, float, int, str]:
        found = self.watch.status()
        return found["state"], found["since"], found["outages"], found["last_error"]

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(10):
                await work
            await self.store.close()

        asyncio.run(limited())


def test_a_question_says_whether_it_is_there_since_when_and_how_often_it_was_not() -> None:
    case = Case()

    async def work() -> None:
        assert case.state() == ("not asked yet", 100.0, 0, "")
        await case.watch.ask()
        assert case.state() == ("connected", 100.0, 0, "")
        assert case.watch.status()["latency_s"] == 0.25
        case.store.refusal, case.now = "no route", 110.0
        await case.watch.ask()
        await case.watch.ask()
        assert case.state() == ("away", 110.0, 1, "no route")
        case.store.refusal, case.now = "", 120.0
        await case.watch.ask()
        assert case.state() == ("connected", 120.0, 1, "")

    case.run(work())


def test_what_the_mirrors_notice_is_in_the_status_before_the_next_question() -> None:
    case = Case()

    async def work() -> None:
        await case.watch.ask()
        case.doubt, case.now = "the watch of /x ended", 110.0
        assert case.state() == ("away", 110.0, 1, "the watch of /x ended")
        await case.watch.ask()  # an answer alone is not enough: this node's copy is not kept up
        assert case.state() == ("away", 110.0, 1, "the watch of /x ended")
        case.doubt, case.now = "", 115.0
        await case.watch.ask()
        assert case.state() == ("connected", 115.0, 1, "")

    case.run(work())


def test_when_the_mirrors_are_back_the_store_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storewatch, "LOOK_S", 0.01)
    monkeypatch.setattr(storewatch, "ASK_S", 3600.0)
    monkeypatch.setattr(storewatch, "ASK_AWAY_S", 3600.0)
    case = Case()

    async def until(state: str) -> None:
        while case.watch.up is not {"connected": True, "away": False}[state]:
            await asyncio.sleep(0.005)

    async def work() -> None:
        running = asyncio.create_task(case.watch.run())
        await until("connected")
        assert case.store.asked == 1
        case.doubt = "gone"
        await until("away")
        case.doubt = ""
        await until("connected")
        assert case.store.asked == 2
        assert case.watch.outages == 1
        running.cancel()

    case.run(work())


def mirror(state: str, for_s: float, error: str) -> MirrorAnswer:
    counts: dict[str, Any] = dict.fromkeys(("revision", "items", "problems", "relists", "reconnects"), 0)
    return msgspec.convert({"state": state, "for_s": for_s, "last_error": error, **counts}, MirrorAnswer)


@pytest.mark.parametrize(
    ("state", "for_s", "error", "wanted"),
    [
        ("connected", 100.0, "an old error", ""),
        ("starting", 100.0, "", ""),
        ("away", BLINK_S, "connection refused", "connection refused"),
        ("away", BLINK_S, "", "its watch ended"),
        ("away", 0.0, "compacted", ""),  # it is about to list again
    ],
)
def test_a_mirror_is_cut_off_when_it_has_been_away_for_a_moment(
    state: str, for_s: float, error: str, wanted: str
) -> None:
    fine, other = mirror("connected", 9.0, ""), mirror(state, for_s, error)
    assert cut_off({"a": fine, "b": other}) == wanted
    assert cut_off({}) == ""
