"""Labs for the tests of the lab itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.lab import Lab
from tulle.lab.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry of this test alone."""
    return Registry(tmp_path / "labs")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Nodes and pods without store and tulled: what the lab itself makes. Two nodes, both families."""
    own = Registry(tmp_path_factory.mktemp("registry") / "labs")
    with Lab(nodes=2, pods=2, backend="none", family="dual", registry=own) as lab:
        yield lab
