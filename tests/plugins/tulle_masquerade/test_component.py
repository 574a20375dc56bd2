"""The component, by the contract of all components and beyond it: mending, flags, and what it tells."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.contracts.component import Component, ComponentContext, Snapshot
from tulle.contracts.kernel import LinkFacts, Wanted
from tulle.contracts.report import Problem, Report
from tulle.kernel.nft import Nft
from tulle.testing.component_contract import PEERS, ComponentContract
from tulle_masquerade.component import Masquerade, blackholes, take_away, vanished, wanted

Shell = Callable[[str], str]
MakeContext = Callable[..., ComponentContext]
WITHIN_S = 10.0


class Routes:
    """A kernel that remembers what was wanted of it."""

    def __init__(self) -> None:
        self.wanted = Wanted()

    async def want(self, wanted: Wanted) -> Report:
        self.wanted = wanted
        return Report()

    async def link(self, name: str) -> LinkFacts | None:
        return None


class OfTool(ComponentContract):
    enable_nftables = True

    @pytest.fixture(autouse=True)
    def in_own_network(self, shell: Shell, rules_of: Callable[[], list[str]]) -> None:
        shell("iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -s 192.0.2.1 -j ACCEPT")
        self.rules = rules_of

    def make_component(self) -> Component:
        return Masquerade({})

    def make_context(self, directory: Path) -> ComponentContext:
        plain = super().make_context(directory)
        flags = {"ip-masq": True, "iptables-forward-rules": True, "iptables-resync": 5}
        return msgspec.structs.replace(plain, options=flags, enable_nftables=self.enable_nftables)

    async def made(self, ctx: ComponentContext) -> object:
        return self.rules()


class TestByNftables(OfTool):
    enable_nftables = True


class TestByIptables(OfTool):
    enable_nftables = False


def running(
    ctx: ComponentContext, use: Callable[[Masquerade, list[str], list[Problem]], Any], kernel: Any = None
) -> None:
    """Use it between a start and a `tulle down`; the lists fill with what it mends and suffers."""
    mended: list[str] = []
    suffered: list[Problem] = []

    def suffers(problems: Sequence[Problem]) -> None:
        suffered[:] = problems

    async def run() -> None:
        component = Masquerade()
        await component.start(
            msgspec.structs.replace(ctx, mended=mended.extend, suffers=suffers, kernel=kernel)
        )
        try:
            await use(component, mended, suffered)
        finally:
            await component.stop(True)

    asyncio.run(run())


async def until(ask: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not ask():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("enable_nftables", [True, False])
def test_what_others_flush_is_back_and_is_told(
    shell: Shell, rules_of: Callable[[], list[str]], make_context: MakeContext, enable_nftables: bool
) -> None:
    async def use(component: Masquerade, mended: list[str], suffered: list[Problem]) -> None:
        there = rules_of()
        for _ in range(3):
            before = len(mended)
            shell("nft flush ruleset")
            await until(lambda: rules_of() == there)
            await until(lambda: len(mended) > before)  # noqa: B023
        assert component.status()["mends"] == len(mended)
        assert (list(component.ready()), suffered) == ([], [])

    running(make_context(enable_nftables=enable_nftables), use)


def test_a_chain_that_begins_to_drop_is_met_and_left_when_it_ends(
    shell: Shell, make_context: MakeContext
) -> None:
    async def use(component: Masquerade, mended: list[str], suffered: list[Problem]) -> None:
        shell("nft 'table inet fw { chain f { type filter hook forward priority 0; policy drop; }; }'")
        await until(lambda: "accept comment" in shell("nft list table inet fw"))
        shell("nft 'add chain inet fw f { policy accept; }'")
        await until(lambda: "tulle" not in shell("nft list table inet fw"))
        assert len(mended) == 2

    running(make_context(), use)


def test_the_old_iptables_is_met_without_events(shell: Shell, make_context: MakeContext) -> None:
    async def use(component: Masquerade, mended: list[str], suffered: list[Problem]) -> None:
        shell("iptables-legacy -P FORWARD DROP")
        await until(lambda: "tulle-masq" in shell("iptables-legacy-save"))
        shell("iptables-legacy -F FORWARD")
        await until(lambda: "tulle-masq" in shell("iptables-legacy-save"))

    running(make_context(), use)
    assert "tulle" not in shell("iptables-legacy-save")


def test_a_chain_that_takes_no_rule_is_a_problem_and_masquerading_goes_on(
    shell: Shell, make_context: MakeContext
) -> None:
    """A table with an owner refuses everybody else; it lives as long as the nft that made it."""
    place = "{ type filter hook forward priority 0; policy drop; }"
    owned = f"add table inet theirs {{ flags owner; }}\nadd chain inet theirs f {place}\n"

    async def use(component: Masquerade, mended: list[str], suffered: list[Problem]) -> None:
        nft = await asyncio.create_subprocess_exec("nft", "-i", stdin=asyncio.subprocess.PIPE)
        assert nft.stdin is not None
        try:
            nft.stdin.write(owned.encode())
            await until(lambda: suffered)
            assert suffered[0].code == "forward-dropped"
            assert "inet theirs f" in suffered[0].message
            assert list(component.ready()) == []
            assert "tulle-masq" in shell("nft list tables")
        finally:
            nft.stdin.close()
            await nft.wait()
        await until(lambda: not suffered)

    running(make_context(), use)


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_another_tool_takes_the_place_of_the_first_and_leaves_nothing_of_it(
    shell: Shell, rules_of: Callable[[], list[str]], make_context: MakeContext, before: bool, after: bool
) -> None:
    async def run() -> None:
        for enable in (before, after):
            component = Masquerade()
            await component.start(make_context(enable_nftables=enable))
            await component.stop(False)

    asyncio.run(run())
    text = "\n".join(rules_of())
    assert ("tulle-masq" in shell("nft list tables")) == after
    assert ("TULLE-POSTRTG" in text) == (not after)
    asyncio.run(take_away())
    assert rules_of() == []


def test_without_flags_what_an_earlier_tulled_left_goes(
    shell: Shell, rules_of: Callable[[], list[str]], make_context: MakeContext
) -> None:
    shell("iptables-nft -P FORWARD DROP")
    off = {"ip-masq": False, "iptables-forward-rules": False}

    async def run() -> None:
        first, second = Masquerade(), Masquerade()
        await first.start(make_context())
        await first.stop(False)
        assert rules_of() != []
        await second.start(make_context(off))
        assert rules_of() == []
        assert second.status()["masquerading"] is False
        assert list(second.ready()) == []
        await second.stop(False)

    asyncio.run(run())


def test_a_node_without_any_tool_says_so_and_is_not_ready(
    own_network: None, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("tulle_masquerade.firewall.Nft", lambda: Nft("none.so"))

    async def use(component: Masquerade, mended: list[str], suffered: list[Problem]) -> None:
        (reason,) = component.ready()
        assert "apt install libnftables1" in reason
        assert "no iptables either" in reason
        report = await component.reconcile(Snapshot(PEERS))
        assert [one.code for one in report.problems] == ["masquerade-refused"]

    running(make_context(), use)


def test_without_nftables_iptables_does_it(
    shell: Shell, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tulle_masquerade.firewall.Nft", lambda: Nft("none.so"))
    shell("iptables-nft -P FORWARD DROP")

    async def use(component: Masquerade, mended: list[str], suffered: list[Problem]) -> None:
        assert component.status()["tool"] == "iptables"
        saved = shell("iptables-nft-save")
        assert "TULLE-POSTRTG" in saved
        assert '-A FORWARD -s 10.42.0.0/16 -m comment --comment "tulle-masq' in saved

    running(make_context(), use)
    assert shutil.which("iptables-nft")
    assert "tulle" not in shell("iptables-nft-save").lower()


def test_blackholes_are_wanted_by_the_flag_and_go(own_network: None, make_context: MakeContext) -> None:
    routes = Routes()

    async def use(component: Masquerade, mended: list[str], suffered: list[Problem]) -> None:
        assert [one.text for one in routes.wanted.routes] == [
            "blackhole 10.42.1.0/24 metric 999999",
            "blackhole fd42:0:0:1::/64 metric 999999",
        ]

    running(make_context({"ip-blackhole-route": True}), use, routes)
    assert routes.wanted == Wanted()
    assert blackholes(make_context()) == ()


def test_the_flags_say_what_is_wanted(make_context: MakeContext) -> None:
    everything = wanted(make_context())
    assert everything.nat
    assert everything.fully_random
    assert len(everything.accepts) == 4
    assert wanted(make_context({"ip-masq": False})).nat is None
    assert not wanted(make_context({"ip-masq-fully-random-disable": True})).fully_random
    none = wanted(make_context({"iptables-forward-rules": False}))
    assert (none.accepts, none.packets) == ((), ())


def test_a_subnet_has_gone_where_no_part_of_it_is_anybodys() -> None:
    one, part, other, six = (
        ip_network(text) for text in ("10.42.2.0/24", "10.42.2.0/25", "10.42.3.0/24", "fd42:2::/64")
    )
    assert vanished((one, other, six), (other,)) == [one, six]
    assert vanished((one,), (part,)) == []
    assert vanished((), (one,)) == []
