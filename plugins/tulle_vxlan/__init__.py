"""Backend `vxlan`: the kernel's own VXLAN device, on flannel's wire and with flannel's lease data."""

from __future__ import annotations

from tulle.contracts.specs import BackendSpec
from tulle.hookspecs import hookimpl
from tulle_vxlan.options import VxlanOptions


@hookimpl
def tulle_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="vxlan",
            factory="tulle_vxlan.backend:VxlanBackend",
            options=VxlanOptions,
            summary="VXLAN by the kernel: the fastest tunnel, no forwarder, encrypts nothing.",
        )
    ]
