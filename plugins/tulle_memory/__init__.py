"""The memory store: everything in one process, for tests. Hooks only; see README.md."""

from __future__ import annotations

from tulle.contracts.specs import StoreSpec
from tulle.hookspecs import hookimpl


@hookimpl
def tulle_stores() -> list[StoreSpec]:
    return [
        StoreSpec(
            name="memory",
            factory="tulle_memory.store:open_memory",
            summary="a store inside this process, for tests; gone when it ends",
        )
    ]
