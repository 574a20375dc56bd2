"""Backend `tagged`: plain UDP whose packets say which cluster they belong to. Hooks only, nothing heavy."""

from __future__ import annotations

from tulle.contracts.specs import BackendSpec, EncapsulationSpec
from tulle.hookspecs import hookimpl

from tulle_tagged.options import TaggedOptions


@hookimpl
def tulle_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="tagged",
            factory="tulle_tagged.backend:TaggedBackend",
            options=TaggedOptions,
            requires=("tagged",),
            summary="UDP with a tag of 12 bytes: packets of other clusters and damaged ones are dropped.",
        )
    ]


@hookimpl
def tulle_encapsulations() -> list[EncapsulationSpec]:
    return [
        EncapsulationSpec(
            name="tagged",
            factory="tulle_tagged.encapsulation:Tagged",
            summary="The inner packet behind a tag: cluster and CRC-32.",
        )
    ]
