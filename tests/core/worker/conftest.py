"""Directories with short paths: a Unix socket's path has at most 107 bytes (unix(7)), pytest's own are longer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tulle-") as name:
        yield Path(name)
