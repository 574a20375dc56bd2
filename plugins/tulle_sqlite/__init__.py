"""The sqlite store: the embedded default, one file for the nodes of one machine. Hooks only; see README.md."""

from __future__ import annotations

from tulle.contracts.specs import OptionSpec, StoreSpec
from tulle.hookspecs import hookimpl


@hookimpl
def tulle_stores() -> list[StoreSpec]:
    return [
        StoreSpec(
            name="sqlite",
            factory="tulle_sqlite.store:open_sqlite",
            summary="one file, shared by the nodes of one machine; needs no server",
            options=(
                OptionSpec(
                    name="sqlite-file",
                    default="{state-dir}/store.sqlite",
                    help="file of the sqlite store",
                ),
            ),
            missing="tulle_sqlite.opening:missing",
            embedded=True,
        )
    ]
