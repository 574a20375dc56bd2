"""A lab of two nodes that talk by `tagged`. It lasts as long as the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tulle.lab import Lab
from tulle.lab.registry import Registry


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    registry = Registry(Path(tmp_path_factory.mktemp("labs"), "registry"))
    with Lab(
        nodes=2, pods=1, backend="tagged", backend_options={"Cluster": "blue"}, registry=registry
    ) as made:
        yield made
