"""Every hook is documented with an example, used by something that ships, and tested."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from tulle import hookspecs

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("tulle_"))


def test_the_list_is_not_empty() -> None:
    assert len(HOOKS) >= 10


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_contract_and_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(hookspecs, name)) or ""
    assert len(text) > 100
    assert "Example" in text


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_collected_by_core(name: str, checkout: Path) -> None:
    use = re.compile(rf'["\']{name}["\']|hook\.{name}\b')
    files = [path for path in (checkout / "core").rglob("*.py") if path.name != "hookspecs.py"]
    assert any(use.search(path.read_text()) for path in files)


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_tested(name: str, checkout: Path) -> None:
    """By a test, or by a plugin that ships: those are tested whole."""
    places = [*(checkout / "tests").rglob("*.py"), *(checkout / "examples").rglob("*.py")]
    users = [path for path in places if re.search(rf"\b{name}\b", path.read_text())]
    assert users, f"no test or example uses {name}"
