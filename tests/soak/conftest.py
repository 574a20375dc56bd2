"""A registry of labs for the soak test alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.lab.registry import Registry


@pytest.fixture
def soak_registry(tmp_path: Path) -> Registry:
    """`tulle lab list` on this machine does not show its lab."""
    return Registry(tmp_path / "registry")
