"""What a data plane is told of one tunnel: device, sockets, and the encapsulation's settings. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import msgspec

from tulle.contracts.backend import Device, Listen, SourceCheck
from tulle.contracts.encapsulation import EncapsulationRef
from tulle.net.prefix import Prefix
from tulle_wireguard.keytext import key_text
from tulle_wireguard.tunnels import Tunnel


class Setup(msgspec.Struct, frozen=True):
    """The arguments of `DataPlane.configure`."""

    device: Device
    listen: tuple[Listen, ...]
    encapsulation: EncapsulationRef
    source_check: SourceCheck

    def __repr__(self) -> str:
        return f"Setup({self.device.name!r}, keys hidden)"

    @classmethod
    def of(
        cls,
        tunnel: Tunnel,
        *,
        mtu: int,
        addresses: Iterable[Prefix],
        routes: Iterable[Prefix],
        private: bytes,
        previous: bytes,
        forwards: bool,
        mark: int = 0,
    ) -> Self:
        """`forwards`: a peer's packets may be for other nodes. `mark`: of what is sent, for routing rules. Outer
        packets may be cut on their way, and each datagram tells our own address and its DS byte, as Linux's WireGuard
        has it."""
        options: dict[str, Any] = {"PrivateKey": key_text(private), "Mtu": mtu}
        if previous:
            options["PreviousPrivateKey"] = key_text(previous)
        return cls(
            Device(tunnel.device, mtu, tuple(addresses), tuple(routes)),
            tuple(
                Listen(family, tunnel.port, fragment=True, tells=True, mark=mark) for family in tunnel.outer
            ),
            EncapsulationRef("wireguard", options),
            "source" if forwards else "strict",
        )
