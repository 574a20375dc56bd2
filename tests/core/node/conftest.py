"""Short directories for sockets, and the kernel tests' network namespace."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.kernel.conftest import netns as netns


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A Unix socket's path has at most 107 bytes (unix(7)), pytest's own directories are longer."""
    with tempfile.TemporaryDirectory(prefix="tulle-") as name:
        yield Path(name)
