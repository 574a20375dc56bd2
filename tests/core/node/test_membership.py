"""A store with leases and a plugin's subnet manager behind one class: what each tells, and what becomes of errors."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from ipaddress import ip_network
from types import ModuleType
from typing import Any

import msgspec
import pytest

from tulle.config.daemon import DaemonConfig
from tulle.config.errors import ConfigError
from tulle.contracts.backend import Advertisement, JsonObject, Peer
from tulle.contracts.specs import StoreSpec, SubnetManagerSpec
from tulle.contracts.store import Denied, Health, Unavailable
from tulle.contracts.subnet import Claim, DuplicateNode, SubnetLost
from tulle.hookspecs import hookimpl
from tulle.net.prefix import Prefix
from tulle.node import membership as subject
from tulle.node.membership import ENDS, ManagerFault, Membership, Told, open_membership, told
from tulle.node.settings import gather
from tulle.plugins import PluginError, PluginInfo, Plugins, load_plugins

PEER = Peer("10.42.2.0-24", "n2", (ip_network("10.42.2.0/24"),), (), "udp")
CLAIM = Claim("n1", {}, Advertisement(type="udp"), node_id="abc")
MIRROR = {
    "state": "connected",
    "for_s": 1.0,
    "revision": 7,
    "items": 2,
    "problems": 0,
    "relists": 0,
    "reconnects": 0,
    "last_error": "",
}


class Manager:
    """A plugin's. A method of `errors` raises that."""

    location = "a place"

    def __init__(self, settings: Any = None) -> None:
        self.errors: dict[str, BaseException] = {}
        self.told: JsonObject = {}
        self.calls: list[Any] = []

    def _call(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name in self.errors:
            raise self.errors[name]

    async def run(self) -> None:
        self._call("run")
        if "run ends" not in self.told:
            await asyncio.Event().wait()

    async def network_config(self) -> bytes:
        self._call("network_config")
        return b"{}"

    async def acquire(self, claim: Claim) -> tuple[Prefix, ...]:
        self._call("acquire", claim)
        return PEER.prefixes

    async def update(self, claim: Claim) -> None:
        self._call("update", claim)

    async def peers(self) -> AsyncIterator[Sequence[Peer]]:
        yield [PEER]
        self._call("peers")

    async def health(self) -> Health:
        self._call("health")
        return Health("there", 0.5, "9")

    def status(self) -> JsonObject:
        self._call("status")
        return self.told

    async def release(self) -> None:
        self._call("release")

    async def close(self) -> None:
        self._call("close")
        if "close hangs" in self.told:
            await asyncio.Event().wait()


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(limited())


async def begun(manager: Manager) -> Membership:
    made = Membership("mine", manager, lambda node_id: manager)
    await made.begin("abc")
    return made


METHODS: dict[str, Callable[[Membership], Coroutine[Any, Any, Any]]] = {
    "run": lambda one: one.run(),
    "network_config": lambda one: one.network_config(),
    "acquire": lambda one: one.acquire(CLAIM),
    "update": lambda one: one.update(CLAIM),
    "release": lambda one: one.release(),
    "peers": lambda one: _all(one),
}


async def _all(one: Membership) -> None:
    async for _ in one.peers():
        pass


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "error",
    [
        ConfigError([]),
        DuplicateNode("two"),
        SubnetLost("lost"),
        Denied("no"),
        Unavailable("away"),
        OSError(5, "disk"),
        ValueError("wrong"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_error_that_the_contract_allows_comes_through_as_it_is(method: str, error: Exception) -> None:
    async def work() -> None:
        manager = Manager()
        made = await begun(manager)
        manager.errors[method] = error
        with pytest.raises(type(error)) as raised:
            await METHODS[method](made)
        assert raised.value is error
        assert isinstance(error, ENDS)

    run(work())


@pytest.mark.parametrize("method", METHODS)
def test_any_other_error_is_told_as_the_plugins_fault(method: str) -> None:
    async def work() -> None:
        manager = Manager()
        made = await begun(manager)
        manager.errors[method] = KeyError("x")
        with pytest.raises(ManagerFault) as raised:
            await METHODS[method](made)
        assert str(raised.value).startswith(
            f"--store mine: its {method} failed (KeyError: 'x'); this is a fault"
        )
        assert raised.value.__cause__ is manager.errors[method]

    run(work())


def test_a_run_or_a_stream_of_peers_that_ends_is_a_fault_too() -> None:
    async def work() -> None:
        manager = Manager()
        made = await begun(manager)
        with pytest.raises(ManagerFault, match="its peers ended"):
            await _all(made)
        manager.told = {"run ends": True}
        with pytest.raises(ManagerFault, match="its run ended"):
            await made.run()

    run(work())


def test_being_cancelled_is_no_fault() -> None:
    async def work() -> None:
        made = await begun(Manager())
        task = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())


def test_calls_reach_the_manager_and_answers_come_back() -> None:
    async def work() -> None:
        manager = Manager()
        made = await begun(manager)
        assert await made.network_config() == b"{}"
        assert await made.acquire(CLAIM) == PEER.prefixes
        await made.update(CLAIM)
        assert await anext(made.peers()) == [PEER]
        assert await made.release()
        await made.give_name_back()
        wanted = [("network_config",), ("acquire", CLAIM), ("update", CLAIM), ("release",), ("close",)]
        assert manager.calls == wanted

    run(work())


def test_before_it_begins_there_is_nothing_to_give_back_or_to_tell_of() -> None:
    async def work() -> None:
        manager = Manager()
        made = Membership("mine", manager, lambda node_id: manager)
        await made.update(CLAIM)
        assert not await made.release()
        await made.give_name_back()
        await made.let_go()
        assert made.told() == Told()
        assert list(made.problems()) == []
        assert made.location == "a place"
        with pytest.raises(RuntimeError, match="begin"):
            await made.network_config()
        assert manager.calls == []

    run(work())


@pytest.mark.parametrize("how", ["hangs", "away", "fault"])
def test_a_name_that_cannot_be_given_back_does_not_hold_up_the_end(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "GIVE_BACK_S", 0.05)

    async def work() -> None:
        manager = Manager()
        made = await begun(manager)
        if how == "hangs":
            manager.told = {"close hangs": True}
        else:
            manager.errors["close"] = Unavailable("away") if how == "away" else KeyError("x")
        await made.give_name_back()
        assert manager.calls == [("close",)]

    run(work())


# --- what is told ---------------------------------------------------------------------------------------------------


def test_words_with_a_place_of_their_own_are_put_there_and_the_rest_is_kept() -> None:
    lease = {"key": "/k", "prefixes": [], "reserved": False, "confirmed_s_ago": 1.0, "lost": False}
    problem = {"code": "c", "subject": "s", "message": "m"}
    drift = {"kind": "gone", "differences": [], "message": "it is gone"}
    words = {"mirrors": {"a": MIRROR}, "lease": lease, "problems": [problem], "config_drift": drift}
    found = told({**words, "leader": "n3"})
    assert msgspec.to_builtins(found.mirrors) == {"a": MIRROR}
    assert msgspec.to_builtins(found.lease) == lease
    assert [(one.code, one.subject) for one in found.problems] == [
        ("c", "s"),
        ("config-gone", "the network config"),
    ]
    assert found.detail == {"leader": "n3"}


def test_a_word_of_another_shape_is_kept_as_it_is() -> None:
    words = {"mirrors": 3, "lease": "until noon", "problems": {"many": 1}, "config_drift": [1]}
    found = told(words)
    assert (found.mirrors, found.lease, found.problems) == ({}, None, [])
    assert found.detail == words


def test_a_status_that_fails_is_a_problem_and_no_more() -> None:
    async def work() -> None:
        manager = Manager()
        made = await begun(manager)
        manager.errors["status"] = KeyError("x")
        (problem,) = made.problems()
        assert (problem.code, problem.subject) == ("subnet-manager-fault", "mine")
        assert "KeyError: 'x'" in problem.message
        await made.watch.ask()
        assert made.watch.up

    run(work())


def test_a_manager_that_is_away_or_is_cut_off_is_a_problem() -> None:
    async def work() -> None:
        manager = Manager()
        made = await begun(manager)
        manager.errors["health"] = Unavailable("nobody answers")
        await made.watch.ask()
        (problem,) = made.problems()
        assert (problem.code, problem.subject) == ("store-away", "a place")
        assert problem.message.startswith("nobody answers; packets go on")
        del manager.errors["health"]
        manager.told = {"mirrors": {"nodes": {**MIRROR, "state": "away", "last_error": "watch refused"}}}
        await made.watch.ask()
        assert made.watch.status()["last_error"] == "watch refused"
        manager.told = {"mirrors": {"nodes": {**MIRROR, "problems": 4}}}
        await made.watch.ask()
        (problem,) = made.problems()
        assert (problem.code, problem.subject) == ("store-unreadable", "nodes")
        assert problem.message == "4 keys make no sense and are left out: look in a place"

    run(work())


# --- how it is opened ----------------------------------------------------------------------------------------------


class ThirdParty:
    """A plugin with one subnet manager."""

    def __init__(self, spec: SubnetManagerSpec) -> None:
        self._spec = spec

    @hookimpl
    def tulle_subnet_managers(self) -> list[SubnetManagerSpec]:
        return [self._spec]


def plugins_with(factory: str, name: str = "mine") -> Plugins:
    plugins = load_plugins()
    spec = SubnetManagerSpec(name=name, factory=factory)
    plugins.add(PluginInfo(name="third-party", version="1"), ThirdParty(spec))
    return plugins


def config_of(plugins: Plugins, *flags: str) -> DaemonConfig:
    config = gather(plugins, ["--node-name=n1", *flags], {}, "").config
    assert config is not None
    return config


def test_a_stores_name_opens_the_store_and_its_leases() -> None:
    async def work() -> None:
        plugins = load_plugins()
        made = open_membership(config_of(plugins, "--store=memory", "--etcd-prefix=/x"), plugins)
        assert (made.name, made.prefix, made.single_machine) == ("memory", "/x", True)
        await made.begin("a" * 32)
        task = asyncio.create_task(made.run())
        while made.watch.up is None:
            await asyncio.sleep(0.01)
        assert set(made.told().mirrors) == {"config", "subnets", "members"}
        assert made.told().detail == {}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.let_go()

    run(work())


def test_a_managers_name_opens_the_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("third_party_manager")
    module.__dict__["Manager"] = Manager
    monkeypatch.setitem(sys.modules, module.__name__, module)
    plugins = plugins_with(f"{module.__name__}:Manager")
    made = open_membership(config_of(plugins, "--store=mine"), plugins)
    assert (made.name, made.location, made.prefix, made.single_machine) == ("mine", "a place", "", False)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("builtins:abs", "its code builtins:abs failed .TypeError"),
        ("builtins:dict", "of type dict, which lacks a part of tulle.contracts.subnet.SubnetManager"),
        ("no_such_module:x", "cannot be loaded"),
    ],
)
def test_a_manager_that_cannot_be_made_is_a_clear_error(factory: str, said: str) -> None:
    plugins = plugins_with(factory)
    with pytest.raises(PluginError, match=rf"mine: .*{said}"):
        open_membership(config_of(plugins, "--store=mine"), plugins)


def test_a_manager_of_a_stores_name_is_refused_whatever_was_asked_for() -> None:
    plugins = plugins_with("a:b", name="sqlite")
    with pytest.raises(PluginError, match=r"--store sqlite: plugin 'sqlite' provides a store .* remove one"):
        config_of(plugins, "--store=memory")


def test_stores_come_before_managers_and_names_lead_to_each() -> None:
    plugins = plugins_with("a:b")
    choices = plugins.store_choices()
    kinds = [isinstance(one, StoreSpec) for one in choices]
    assert kinds == sorted(kinds, reverse=True)
    assert plugins.store_choice("MINE") is choices[-1]
    assert isinstance(plugins.store_choice("etcd"), StoreSpec)
    with pytest.raises(PluginError, match="no plugin provides store 'steam'"):
        plugins.store_choice("steam")


def test_folders_of_the_store_are_followed_below_its_prefix_and_are_empty_where_there_is_none() -> None:
    async def work() -> None:
        plugins = load_plugins()
        made = open_membership(config_of(plugins, "--store=memory", "--etcd-prefix=/x/"), plugins)
        folder = made.follow("mine/things")
        assert await anext(folder) == {}
        await folder.aclose()
        await made.let_go()
        without = Membership("mine", Manager(), lambda node_id: Manager())
        nothing = without.follow("mine/things")
        assert await anext(nothing) == {}
        await nothing.aclose()

    run(work())
