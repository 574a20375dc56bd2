"""Backend `udp`: pods' packets as they are, in UDP datagrams. flannel's udp wire."""

from __future__ import annotations

from tulle.contracts.specs import BackendSpec, EncapsulationSpec
from tulle.hookspecs import hookimpl
from tulle_udp.options import UdpOptions


@hookimpl
def tulle_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="udp",
            factory="tulle_udp.backend:UdpBackend",
            options=UdpOptions,
            requires=("udp",),
            summary="Bare packets in UDP datagrams: works anywhere, encrypts nothing.",
        )
    ]


@hookimpl
def tulle_encapsulations() -> list[EncapsulationSpec]:
    return [
        EncapsulationSpec(
            name="udp",
            factory="tulle_udp.encapsulation:PlainUdp",
            summary="The inner packet is the whole payload.",
        )
    ]
