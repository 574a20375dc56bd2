"""The python engine, registered like anybody's."""

from __future__ import annotations

from tulle.contracts.specs import EngineSpec
from tulle.hookspecs import hookimpl


@hookimpl
def tulle_engines() -> list[EngineSpec]:
    return [
        EngineSpec(
            name="python",
            factory="tulle.forward.python_engine:PythonEngine",
            rank=0,
            summary="The reference: runs any encapsulation, needs nothing but Python.",
        )
    ]
