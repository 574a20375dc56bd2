"""Backend `extension`: commands of the operator carry the packets; tulled says when and for whom they are run."""

from __future__ import annotations

from tulle.contracts.specs import BackendSpec
from tulle.hookspecs import hookimpl
from tulle_extension.options import ExtensionOptions


@hookimpl
def tulle_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="extension",
            factory="tulle_extension.backend:ExtensionBackend",
            options=ExtensionOptions,
            owns_the_way=False,
            summary="Your own commands, run for this node and for each peer.",
        )
    ]
