"""Backend `alloc`: a subnet for this node and nothing else; somebody else carries the packets."""

from __future__ import annotations

from tulle.contracts.specs import BackendSpec
from tulle.hookspecs import hookimpl


@hookimpl
def tulle_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="alloc",
            factory="tulle_alloc.backend:AllocBackend",
            owns_the_way=False,
            summary="A lease and subnet.env; no device, no routes, no packets carried.",
        )
    ]
