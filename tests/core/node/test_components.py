"""Which components run, what they are given, and what becomes of what they say."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.backend import JsonObject, Problem, Report, Underlay
from tulle.contracts.component import ComponentContext, Snapshot
from tulle.contracts.kernel import Wanted, WantedRoute
from tulle.contracts.specs import BackendSpec, ComponentSpec
from tulle.hookspecs import hookimpl
from tulle.kernel.netlink import Netlink
from tulle.node.components import Components
from tulle.node.context import Context, KeptKernel, NoDataPlane
from tulle.node.down import remove_leftovers
from tulle.node.keeper import Keeper
from tulle.node.network import Network, check_network
from tulle.plugins import PluginInfo, Plugins

NETWORK = '{"Network": "10.42.0.0/16", "EnableNFTables": false}'
PLACE = "tulle_of_this_test"


class Recorder:
    """A component that remembers what it was given."""

    made: list[Recorder]

    def __init__(self, settings: object) -> None:
        self.settings = settings
        self.given: ComponentContext | None = None
        self.report = Report()
        Recorder.made.append(self)

    async def start(self, ctx: ComponentContext) -> None:
        self.given = ctx

    async def reconcile(self, snapshot: Snapshot) -> Report:
        return self.report

    def ready(self) -> Sequence[str]:
        return []

    def status(self) -> JsonObject:
        return {}

    async def stop(self, remove: bool) -> Sequence[str] | None:
        return ["table mine: removed"] if remove else None


async def leftovers() -> list[str]:
    return ["what was left: removed"]


async def leftovers_of_backend() -> list[str]:
    return ["what a backend left: removed"]


async def broken_leftovers() -> list[str]:
    raise OSError("no rights")


@pytest.fixture
def plugins() -> Iterator[Plugins]:
    Recorder.made = []
    module = types.ModuleType(PLACE)
    module.Recorder = Recorder  # type: ignore[attr-defined]
    module.leftovers, module.broken = leftovers, broken_leftovers  # type: ignore[attr-defined]
    module.leftovers_of_backend = leftovers_of_backend  # type: ignore[attr-defined]

    class Hooks:
        @hookimpl
        def tulle_components(self) -> list[ComponentSpec]:
            factory = f"{PLACE}:Recorder"
            return [
                ComponentSpec(name="always", factory=factory, always=True, leftovers=f"{PLACE}:leftovers"),
                ComponentSpec(name="asked", factory=factory, leftovers=f"{PLACE}:broken"),
            ]

        @hookimpl
        def tulle_backends(self) -> list[BackendSpec]:
            factory = f"{PLACE}:Recorder"
            return [
                BackendSpec(name="tidy", factory=factory),
                BackendSpec(name="untidy", factory=factory, leftovers=f"{PLACE}:leftovers_of_backend"),
            ]

    sys.modules[PLACE] = module
    made = Plugins()
    made.add(PluginInfo(name="test", version="1"), Hooks())
    yield made
    del sys.modules[PLACE]


def context(tmp_path: Path, keeper: Keeper, netlink: Netlink) -> Context:
    underlay = Underlay(link="eth0", index=2, mtu=1500, addresses={}, public={}, chosen_because="")

    async def publish(advertisement: object) -> None:
        raise AssertionError(advertisement)

    return Context(
        node="n1",
        underlay=underlay,
        networks=(ip_network("10.42.0.0/16"),),
        prefixes=(ip_network("10.42.1.0/24"),),
        state_dir=tmp_path,
        dataplane=NoDataPlane(),
        kernel=KeptKernel(keeper, netlink),
        on_publish=publish,
    )


def started(
    plugins: Plugins, tmp_path: Path, use: Callable[[Components, Keeper], Any], text: str = NETWORK
) -> None:
    async def run() -> None:
        netlink = Netlink()
        keeper = Keeper(netlink, wall=lambda: 5.0)
        components = Components(plugins, {"a-flag": True})
        network: Network = check_network(text, plugins_with_backends())
        try:
            await components.start(network, context(tmp_path, keeper, netlink), tmp_path, keeper, netlink)
            await use(components, keeper)
        finally:
            netlink.close()

    asyncio.run(run())


def plugins_with_backends() -> Plugins:
    from tulle.plugins import load_plugins

    return load_plugins()


def test_one_that_runs_always_needs_no_section_and_is_told_the_flags(
    plugins: Plugins, tmp_path: Path
) -> None:
    async def use(components: Components, keeper: Keeper) -> None:
        (only,) = Recorder.made
        assert only.settings == {}
        assert only.given is not None
        assert only.given.options == {"a-flag": True}
        assert only.given.enable_nftables is False
        assert only.given.kernel is not None

    started(plugins, tmp_path, use)


def test_what_it_mends_is_remembered_and_what_it_suffers_is_a_problem(
    plugins: Plugins, tmp_path: Path
) -> None:
    async def use(components: Components, keeper: Keeper) -> None:
        (only,) = Recorder.made
        assert only.given is not None
        only.given.mended(["table mine: was not there, set"])
        assert [(one.at, one.line) for one in keeper.mends] == [(5.0, "table mine: was not there, set")]
        problem = Problem("dropped", "chain f", "it drops")
        only.given.suffers([problem])
        assert components.problems() == [problem]
        await components.reconcile(())
        assert components.problems() == []
        only.report = Report(problems=(problem,))
        await components.reconcile(())
        assert components.problems() == [problem]

    started(plugins, tmp_path, use)


def test_what_was_taken_away_is_told(plugins: Plugins, tmp_path: Path) -> None:
    async def use(components: Components, keeper: Keeper) -> None:
        assert await components.stop(remove=True) == ["table mine: removed"]
        assert await components.stop(remove=True) == []

    started(plugins, tmp_path, use)


def test_routes_of_a_component_are_beside_those_of_the_backend(tmp_path: Path) -> None:
    """Each states its own part, and neither takes the other's away."""
    wanted: dict[str, Wanted] = {}

    class Watched(Keeper):
        def want(self, party: str, part: Wanted) -> None:
            wanted[party] = part

        async def settle(self, *, trusting: bool = False) -> Report:
            return Report()

    async def run() -> None:
        netlink = Netlink()
        keeper = Watched(netlink)
        route = WantedRoute(ip_network("10.42.1.0/24"), None, "blackhole", 7)
        await KeptKernel(keeper, netlink).want(Wanted())
        await KeptKernel(keeper, netlink, "component always").want(Wanted(routes=(route,)))
        netlink.close()
        assert {party: part.routes for party, part in wanted.items()} == {
            "backend": (),
            "component always": (route,),
        }

    asyncio.run(run())


def test_what_components_and_backends_left_goes_and_one_that_cannot_is_said(plugins: Plugins) -> None:
    lines = asyncio.run(remove_leftovers(plugins))
    assert lines == [
        "what was left: removed",
        "asked: what it left cannot be removed (OSError: no rights)",
        "what a backend left: removed",
    ]
