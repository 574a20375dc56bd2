"""The python engine is registered as any other would be."""

from __future__ import annotations

from tulle.contracts.specs import load
from tulle.forward.plugin import tulle_engines
from tulle.forward.python_engine import PythonEngine


def test_the_hook_names_the_engine_that_runs_any_encapsulation() -> None:
    (spec,) = tulle_engines()
    assert load(spec.factory) is PythonEngine
    assert spec.name == PythonEngine.name
    assert spec.encapsulations is None
