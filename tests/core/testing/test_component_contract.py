"""The components' contract, over a small real one: a hosts file of the cluster's nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tulle.contracts.backend import JsonObject, Report
from tulle.contracts.component import Component, ComponentContext, Snapshot
from tulle.files import write_atomically
from tulle.testing.component_contract import ComponentContract


class Hosts:
    """Writes `<run-dir>/hosts`: a line for each endpoint of each node."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._nodes: int | None = None

    async def start(self, ctx: ComponentContext) -> None:
        self._file = ctx.run_dir / "hosts"

    async def reconcile(self, snapshot: Snapshot) -> Report:
        assert self._file is not None, "start comes first"
        lines = sorted(f"{address} {peer.node}\n" for peer in snapshot.peers for address in peer.endpoints)
        self._nodes = len(snapshot.peers)
        text = "".join(lines).encode()
        if self._file.exists() and self._file.read_bytes() == text:
            return Report()
        write_atomically(self._file, text, mode=0o644)
        return Report((f"{self._file}: {len(lines)} lines",))

    def ready(self) -> Sequence[str]:
        return ["the nodes are not known yet"] if self._nodes is None else []

    def status(self) -> JsonObject:
        return {"nodes": self._nodes}

    async def stop(self, remove: bool) -> None:
        if remove and self._file is not None:
            self._file.unlink(missing_ok=True)


class TestHosts(ComponentContract):
    def make_component(self) -> Component:
        return Hosts()

    async def made(self, ctx: ComponentContext) -> object:
        file = ctx.run_dir / "hosts"
        return file.read_text() if file.exists() else None


class Unsorted(Hosts):
    """Writes whatever order comes."""

    async def reconcile(self, snapshot: Snapshot) -> Report:
        assert self._file is not None
        text = "".join(peer.node for peer in snapshot.peers)
        if self._file.exists() and self._file.read_text() == text:
            return Report()
        self._file.write_text(text)
        return Report(("written",))


class Clinging(Hosts):
    """Leaves its file behind."""

    async def stop(self, remove: bool) -> None:
        return None


class Leaving(Hosts):
    """Takes its file along at each end."""

    async def stop(self, remove: bool) -> None:
        await super().stop(True)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Unsorted, "test_a_second_pass_changes_nothing_whatever_the_order_of_the_peers"),
        (Clinging, "test_stopping_for_good_takes_all_away_and_may_come_twice"),
        (Leaving, "test_stopping_without_removing_leaves_all_to_the_next_start"),
    ],
)
def test_what_breaks_the_contract_fails(tmp_path: Path, kind: type[Hosts], test: str) -> None:
    class Broken(TestHosts):
        def make_component(self) -> Component:
            return kind()

    with pytest.raises(AssertionError):
        getattr(Broken(), test)(tmp_path)
