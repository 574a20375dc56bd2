"""Backend `vxlan`: flannel's VXLAN wire and lease data, by the kernel's own devices or in user space."""

from __future__ import annotations

from tulle.contracts.specs import BackendSpec, EncapsulationSpec
from tulle.hookspecs import hookimpl
from tulle_vxlan.options import VxlanOptions


@hookimpl
def tulle_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="vxlan",
            factory="tulle_vxlan.backend:VxlanBackend",
            options=VxlanOptions,
            requires=("vxlan",),
            summary="VXLAN by the kernel, the fastest tunnel, or in user space; encrypts nothing.",
        )
    ]


@hookimpl
def tulle_encapsulations() -> list[EncapsulationSpec]:
    return [
        EncapsulationSpec(
            name="vxlan",
            factory="tulle_vxlan.encapsulation:VxlanWire",
            summary="An Ethernet frame behind a VXLAN header (RFC 7348).",
        )
    ]
