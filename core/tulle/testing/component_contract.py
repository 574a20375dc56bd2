"""What every component must do.

class TestMine(ComponentContract):
    def make_component(self):
        return MyComponent({"Zone": "cluster.local"})

    async def made(self, ctx):
        return set of lines, what the component has made for the peers
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec
import pytest

from tulle.contracts.backend import Peer
from tulle.contracts.component import Component, ComponentContext, Snapshot


def make_peer(number: int) -> Peer:
    return Peer(
        key=f"10.42.{number}.0-24",
        node=f"n{number}",
        prefixes=(ip_network(f"10.42.{number}.0/24"),),
        endpoints=(ip_address(f"192.0.2.{number}"),),
        backend="",
        revision=number,
    )


PEERS = tuple(make_peer(number) for number in (2, 3, 4))


class ComponentContract:
    """See the module."""

    def make_component(self) -> Component:
        """A fresh one, as its factory makes it from the settings."""
        raise NotImplementedError(f"{type(self).__name__} must override make_component")

    async def made(self, ctx: ComponentContext) -> object:
        """What there is of the component outside its process (kernel, files), in a form that can be compared."""
        raise NotImplementedError(f"{type(self).__name__} must override made")

    def make_context(self, directory: Path) -> ComponentContext:
        """A node of the test's own."""
        for name in ("state", "run"):
            (directory / name).mkdir(exist_ok=True)
        return ComponentContext(
            "n1",
            (ip_network("10.42.0.0/16"),),
            (ip_network("10.42.1.0/24"),),
            directory / "state",
            directory / "run",
        )

    async def started(self, ctx: ComponentContext, peers: Sequence[Peer] = PEERS) -> Component:
        component = self.make_component()
        await component.start(ctx)
        await component.reconcile(Snapshot(peers))
        return component

    def test_a_second_pass_changes_nothing_whatever_the_order_of_the_peers(self, tmp_path: Path) -> None:
        async def run() -> None:
            ctx = self.make_context(tmp_path)
            component = await self.started(ctx)
            there = await self.made(ctx)
            for peers in (PEERS, PEERS[::-1]):
                report = await component.reconcile(Snapshot(peers))
                assert report.changed == ()
                assert await self.made(ctx) == there
            await component.stop(True)

        asyncio.run(run())

    def test_every_way_to_a_snapshot_ends_in_the_same_state(self, tmp_path: Path) -> None:
        async def run() -> None:
            ctx = self.make_context(tmp_path)
            component = await self.started(ctx, PEERS[:2])
            wanted = await self.made(ctx)
            for detour in (PEERS, (), PEERS[2:], PEERS[1:]):
                await component.reconcile(Snapshot(detour))
                await component.reconcile(Snapshot(PEERS[:2]))
                assert await self.made(ctx) == wanted
            await component.stop(True)

        asyncio.run(run())

    def test_it_is_ready_after_its_first_snapshot_and_says_why_it_is_not_before(self, tmp_path: Path) -> None:
        async def run() -> None:
            ctx = self.make_context(tmp_path)
            component = self.make_component()
            assert all(isinstance(reason, str) and reason for reason in component.ready())
            await component.start(ctx)
            await component.reconcile(Snapshot(PEERS))
            assert list(component.ready()) == []
            await component.stop(True)

        asyncio.run(run())

    def test_the_status_is_json_ready_at_any_time(self, tmp_path: Path) -> None:
        async def run() -> None:
            component = self.make_component()
            statuses = [component.status()]
            await component.start(self.make_context(tmp_path))
            statuses.append(component.status())
            await component.reconcile(Snapshot(PEERS))
            statuses.append(component.status())
            await component.stop(True)
            for status in statuses:
                assert msgspec.json.decode(msgspec.json.encode(status)) == status

        asyncio.run(run())

    def test_stopping_without_removing_leaves_all_to_the_next_start(self, tmp_path: Path) -> None:
        async def run() -> None:
            ctx = self.make_context(tmp_path)
            component = await self.started(ctx)
            there = await self.made(ctx)
            await component.stop(False)
            assert await self.made(ctx) == there
            again = self.make_component()
            await again.start(ctx)
            assert (await again.reconcile(Snapshot(PEERS))).changed == ()
            assert await self.made(ctx) == there
            await again.stop(True)

        asyncio.run(run())

    def test_stopping_for_good_takes_all_away_and_may_come_twice(self, tmp_path: Path) -> None:
        async def run() -> None:
            ctx = self.make_context(tmp_path)
            before = await self.made(ctx)
            component = await self.started(ctx)
            await component.stop(True)
            assert await self.made(ctx) == before
            await component.stop(True)
            assert await self.made(ctx) == before

        asyncio.run(run())

    @pytest.mark.parametrize("remove", [False, True])
    def test_stopping_before_the_start_is_no_error(self, remove: bool) -> None:
        asyncio.run(self.make_component().stop(remove))
