"""A batch of 64 packets by way of the python engine, and by its system calls alone; `engine` gives their ratio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.rig import BenchRig
from tulle.forward.python_engine import BATCH

Benchmark = Any
"""pytest-benchmark's fixture; the package has no types."""

ROUNDS = 200


@pytest.fixture
def rig() -> Iterator[BenchRig]:
    with BenchRig(1400) as made:
        yield made


def run(benchmark: Benchmark, rig: BenchRig, *, out: bool, engine: bool) -> None:
    """Time it batch by batch; what came through is counted at each."""
    work = {
        (True, True): rig.engine_out,
        (True, False): rig.bare_out,
        (False, True): rig.engine_in,
        (False, False): rig.bare_in,
    }[out, engine]
    moved: list[int] = []

    def set_up() -> None:
        (rig.fill_out if out else rig.fill_in)()

    def tear_down() -> None:
        moved.append(rig.drain_out() if out else rig.drain_in())

    benchmark.pedantic(work, setup=set_up, teardown=tear_down, rounds=ROUNDS)
    benchmark.extra_info.update(each="packet", count=BATCH)
    assert set(moved) == {BATCH}


def test_outbound(benchmark: Benchmark, rig: BenchRig) -> None:
    run(benchmark, rig, out=True, engine=True)


def test_outbound_by_system_calls_alone(benchmark: Benchmark, rig: BenchRig) -> None:
    run(benchmark, rig, out=True, engine=False)


def test_inbound(benchmark: Benchmark, rig: BenchRig) -> None:
    run(benchmark, rig, out=False, engine=True)


def test_inbound_by_system_calls_alone(benchmark: Benchmark, rig: BenchRig) -> None:
    run(benchmark, rig, out=False, engine=False)
