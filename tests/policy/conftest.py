"""Where the checkout lies, and what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def checkout() -> Path:
    return HERE


@pytest.fixture(scope="session")
def sources(checkout: Path) -> list[Path]:
    """Every Python file that is shipped or run, made by people."""
    folders = ("core", "plugins", "tests", "benchmarks", "packaging", "examples")
    found = [path for folder in folders for path in (checkout / folder).rglob("*.py")]
    return sorted(path for path in found if not path.stem.endswith("_pb2") and ".venv" not in path.parts)
