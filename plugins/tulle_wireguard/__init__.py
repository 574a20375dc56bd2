"""Backend `wireguard`: encrypted UDP that any WireGuard understands. This file holds the hooks only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tulle.contracts.specs import ApiMethod, BackendSpec, DoctorCheck, EncapsulationSpec
from tulle.hookspecs import hookimpl
from tulle_wireguard.options import WireguardOptions

if TYPE_CHECKING:
    import click


@hookimpl
def tulle_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="wireguard",
            aliases=("encrypted-udp",),
            factory="tulle_wireguard.backend:WireguardBackend",
            options=WireguardOptions,
            requires=("wireguard",),
            leftovers="tulle_wireguard.nodesockets:take_away",
            summary="Encrypted UDP, as WireGuard: flannel nodes and stock WireGuard can join.",
        )
    ]


@hookimpl
def tulle_encapsulations() -> list[EncapsulationSpec]:
    return [
        EncapsulationSpec(
            name="wireguard",
            factory="tulle_wireguard.encapsulation:WireGuard",
            summary="WireGuard's messages, handshakes and timers.",
        )
    ]


@hookimpl
def tulle_api_methods() -> list[ApiMethod]:
    from tulle_wireguard.methods import METHODS

    return list(METHODS)


@hookimpl
def tulle_doctor_checks() -> list[DoctorCheck]:
    return [
        DoctorCheck(
            name="wireguard-sockets",
            factory="tulle_wireguard.doctor:check",
            summary="No socket of wg is left of a tulled that is gone.",
        )
    ]


@hookimpl
def tulle_commands() -> list[click.Command]:
    from tulle_wireguard.words import wireguard

    return [wireguard]
