"""Contract of a store against a model: whatever is done to it, in any order, it is a map with a history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tulle.contracts.store import Compare, Delete, Event, Op, Put, Revision, Store, TxnResult
from tulle.testing.store_clients import Clients, StoreTests, head, put, transact_all

_KEYS = st.sampled_from(["m/a", "m/b", "m/b/c", "m/ÿ"])
_OPS = st.lists(
    st.builds(Put, _KEYS, st.binary(max_size=2)) | st.builds(Delete, _KEYS),
    max_size=3,
    unique_by=lambda op: op.key,
)


class Step(msgspec.Struct, frozen=True):
    """A transaction whose condition is on the version of one key."""

    key: str
    version: int
    then: Sequence[Op]
    otherwise: Sequence[Op]


_STEPS = st.lists(st.builds(Step, _KEYS, st.integers(0, 3), _OPS, _OPS), max_size=12)


class Model(msgspec.Struct):
    """The keys with their versions, as simple as can be, and how they stood at each revision."""

    state: dict[str, tuple[bytes, int]] = {}
    history: dict[Revision, dict[str, tuple[bytes, int]]] = {}

    def version(self, key: str) -> int:
        return self.state[key][1] if key in self.state else 0

    def run(self, step: Step) -> tuple[bool, bool]:
        """Whether the condition held, and whether anything changed."""
        held = self.version(step.key) == step.version
        before = dict(self.state)
        for op in step.then if held else step.otherwise:
            if isinstance(op, Put):
                self.state[op.key] = (op.value, self.version(op.key) + 1)
            else:
                self.state.pop(op.key, None)
        return held, self.state != before


async def _state(store: Store, revision: Revision) -> dict[str, tuple[bytes, int]]:
    items = (await store.list("m/", revision=revision)).items
    return {kv.key: (kv.value, kv.version) for kv in items}


def _replay(state: dict[str, tuple[bytes, int]], events: Sequence[Event]) -> None:
    """What a mirror does with events; each must follow from the one before."""
    for event in events:
        key, previous = event.kv.key, event.previous
        assert state.get(key) == (None if previous is None else (previous.value, previous.version))
        if event.kind == "put":
            state[key] = (event.kv.value, event.kv.version)
        else:
            del state[key]


class ModelTests(StoreTests):
    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(_STEPS)
    def test_any_history_is_the_models(self, steps: list[Step]) -> None:
        asyncio.run(self._follow(steps))

    async def _follow(self, steps: list[Step]) -> None:
        async with AsyncExitStack() as stack:
            clients = Clients(self, stack)
            store, other = await clients.open(), await clients.open()
            await transact_all(store, [Delete(kv.key) for kv in (await store.list("")).items])
            start, model = await head(store), Model()
            model.history[start] = {}
            for number, step in enumerate(steps):
                await self._step((store, other)[number % 2], model, step)
            for revision, state in model.history.items():
                assert await _state(store, revision) == state
            await put(store, "m/end")
            watcher = await clients.watch(other, "m/", start)
            mirrored: dict[str, tuple[bytes, int]] = {}
            *events, _ = await watcher.until("m/end")
            for revision, state in model.history.items():
                while events and events[0].kv.modified <= revision:
                    _replay(mirrored, [events.pop(0)])
                assert mirrored == state
            assert events == []

    async def _step(self, store: Store, model: Model, step: Step) -> None:
        before = max(model.history)
        result: TxnResult = await store.transact(
            [Compare(step.key, "version", step.version)], step.then, step.otherwise
        )
        held, changed = model.run(step)
        assert result.succeeded == held
        assert (result.revision != before) == changed
        model.history[result.revision] = dict(model.state)
