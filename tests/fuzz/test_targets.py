"""The fuzz targets in a second each, with the same inputs each time; `make fuzz` looks for new ones, led by what they
cover."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from fuzz.found import Target, load, names
from fuzz.mutations import inputs

EXAMPLES = 300


@pytest.fixture(params=names())
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    found = load(request.param)
    yield found
    found.close()


def test_its_seeds_are_taken(target: Target) -> None:
    assert target.seeds
    for seed in target.seeds:
        target.run(seed)


def test_no_input_breaks_it(target: Target) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(target.seeds))
    def run(data: bytes) -> None:
        target.run(data)

    run()
