"""Peers' commands are run until all is as wanted: side by side for different peers, one after the other for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tulle_extension import peers as module
from tulle_extension.calls import Call, Done, Step
from tulle_extension.peers import AT_A_TIME, PeerWork
from tulle_extension.run import Outcome

LONG_S = 20.0


def call(name: str) -> Call:
    return Call({"SUBNET": name})


class Commands:
    """Notes what is run; a step whose word is in `failing` fails, and runs wait for `gate`."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.failing: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = self.most = 0
        self.saves = self.changes = 0
        self.work = PeerWork(self.run, self.saved, self.changed, {})

    def saved(self) -> None:
        self.saves += 1

    def changed(self) -> None:
        self.changes += 1

    async def run(self, step: Step) -> Outcome:
        word = f"{step.kind} {step.call.environment['SUBNET']}"
        self.log.append(word)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        return Outcome("it broke" if word in self.failing else "")

    async def want(self, **calls: str) -> None:
        self.work.want(
            {key: call(name) for key, name in calls.items()}, {key: f"node-{key}" for key in calls}
        )
        await self.work.settle(LONG_S)

    def take(self) -> list[str]:
        found, self.log = self.log, []
        return found


def run(test: Callable[[Commands], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(LONG_S):
            commands = Commands()
            try:
                await test(commands)
            finally:
                await commands.work.stop()
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert left == []

    asyncio.run(whole())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "retry_after_s", lambda failures: 0.02 * failures)


def test_each_change_runs_what_it_needs_and_no_more() -> None:
    async def test(commands: Commands) -> None:
        await commands.want(a="one", b="two")
        assert sorted(commands.take()) == ["add one", "add two"]
        assert commands.work.added() == {"a", "b"}
        await commands.want(a="one", b="two")
        assert commands.take() == []
        await commands.want(a="other", b="two")
        assert commands.take() == ["remove one", "add other"]
        await commands.want(b="two")
        assert commands.take() == ["remove other"]
        await commands.want()
        assert commands.take() == ["remove two"]
        assert commands.work.done == {}
        assert commands.changes == 0

    run(test)


def test_what_an_earlier_run_added_is_not_added_again() -> None:
    async def test(commands: Commands) -> None:
        commands.work.done = {
            "a": Done(call("one"), True),
            "b": Done(call("two"), False),
            "c": Done(call("x"), True),
        }
        await commands.want(a="one", b="two")
        assert sorted(commands.take()) == ["add two", "remove x"]

    run(test)


def test_a_failure_is_named_with_the_peer_and_does_not_stop_the_others() -> None:
    async def test(commands: Commands) -> None:
        commands.failing = {"add one"}
        await commands.want(a="one", b="two")
        (problem,) = commands.work.problems()
        assert (problem.code, problem.subject) == ("command-failed", "node-a")
        assert problem.message.startswith("it broke; it is run again in 2 s")
        assert commands.work.added() == {"b"}
        await commands.want(a="one", b="two")
        assert commands.take().count("add one") == 1, "it must not be run before its time"

    run(test)


@pytest.mark.usefixtures("quick")
def test_a_failed_add_is_tried_again_until_it_works_and_that_is_told() -> None:
    async def test(commands: Commands) -> None:
        commands.failing = {"add one"}
        await commands.want(a="one")
        while commands.log.count("add one") < 3:
            await asyncio.sleep(0.005)
        commands.failing.clear()
        while not commands.work.added():
            await asyncio.sleep(0.005)
        tries = len(commands.log)
        assert commands.work.problems() == []
        await asyncio.sleep(0.1)
        assert len(commands.log) == tries
        assert commands.changes == tries - 1

    run(test)


@pytest.mark.usefixtures("quick")
def test_a_remove_that_never_works_is_given_up() -> None:
    async def test(commands: Commands) -> None:
        commands.failing = {"remove one"}
        await commands.want(a="one")
        await commands.want()
        assert [problem.subject for problem in commands.work.problems()] == ["node-a"]
        while commands.work.done:
            await asyncio.sleep(0.005)
        await commands.work.settle(LONG_S)
        assert commands.take() == ["add one"] + ["remove one"] * 6
        assert commands.work.problems() == []

    run(test)


def test_a_remove_that_fails_does_not_keep_a_peers_new_call_waiting() -> None:
    async def test(commands: Commands) -> None:
        commands.failing = {"remove one"}
        await commands.want(a="one")
        await commands.want(a="other")
        assert commands.take() == ["add one", "remove one", "add other"]
        assert commands.work.problems() == []

    run(test)


def test_what_changes_while_a_command_runs_comes_after_it() -> None:
    async def test(commands: Commands) -> None:
        commands.gate.clear()
        commands.work.want({"a": call("one")}, {})
        while not commands.log:
            await asyncio.sleep(0)
        commands.work.want({"a": call("other")}, {})
        commands.gate.set()
        await commands.work.settle(LONG_S)
        assert commands.take() == ["add one", "remove one", "add other"]

    run(test)


def test_a_new_call_does_not_wait_for_the_pause_of_the_old_one() -> None:
    async def test(commands: Commands) -> None:
        commands.failing = {"add one"}
        await commands.want(a="one")
        await commands.want(a="other")
        assert commands.take() == ["add one", "remove one", "add other"]
        assert commands.work.added() == {"a"}

    run(test)


def test_many_peers_are_not_served_all_at_once() -> None:
    async def test(commands: Commands) -> None:
        commands.gate.clear()
        commands.work.want({f"k{number}": call(str(number)) for number in range(5 * AT_A_TIME)}, {})
        await commands.work.settle(0.05)
        assert commands.most == commands.under_way == AT_A_TIME
        commands.gate.set()
        await commands.work.settle(LONG_S)
        assert len(commands.work.added()) == 5 * AT_A_TIME
        assert commands.most == AT_A_TIME

    run(test)


def test_settle_gives_up_when_its_time_is_up_and_the_work_goes_on() -> None:
    async def test(commands: Commands) -> None:
        commands.gate.clear()
        commands.work.want({"a": call("one")}, {})
        await commands.work.settle(0.05)
        assert commands.work.added() == set()
        commands.gate.set()
        await commands.work.settle(LONG_S)
        assert commands.work.added() == {"a"}

    run(test)


def test_an_add_that_was_cut_off_is_remembered_as_not_done() -> None:
    async def test(commands: Commands) -> None:
        commands.gate.clear()
        commands.work.want({"a": call("one")}, {})
        while not commands.log:
            await asyncio.sleep(0)
        await commands.work.stop()
        assert commands.work.done == {"a": Done(call("one"), added=False)}
        assert commands.saves == 1

    run(test)


def test_what_was_done_is_saved_soon_and_seldom() -> None:
    async def test(commands: Commands) -> None:
        await commands.want(**{f"k{number}": str(number) for number in range(20)})
        assert commands.saves == 0
        while not commands.saves:
            await asyncio.sleep(0.05)
        await asyncio.sleep(module.SAVE_S + 0.1)
        assert commands.saves == 1

    run(test)
