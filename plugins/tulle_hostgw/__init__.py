"""Backend `host-gw`: a plain route to each peer, whose node is the gateway. For nodes on one link."""

from __future__ import annotations

from tulle.contracts.specs import BackendSpec
from tulle.hookspecs import hookimpl


@hookimpl
def tulle_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="host-gw",
            factory="tulle_hostgw.backend:HostGwBackend",
            summary="Plain routes between nodes on one link: nothing is wrapped, nothing is faster.",
        )
    ]
