"""What a device has to say after a call: datagrams to send, packets to deliver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.peer import Peer


class Send(NamedTuple):
    """Datagrams for one endpoint, in order, each in pieces."""

    endpoint: Endpoint
    ds: int
    """The DS byte (IP_TOS, IPV6_TCLASS)."""
    datagrams: Sequence[Sequence[bytes]]


class Received(NamedTuple):
    """Inner packets, and who sent them."""

    peer: Peer
    packets: Sequence[bytes]


class Outputs:
    """Both, in the order in which they came up."""

    __slots__ = ("received", "sends")

    def __init__(self) -> None:
        self.sends: list[Send] = []
        self.received: list[Received] = []

    def add(self, other: Outputs) -> None:
        """What came up afterwards."""
        self.sends += other.sends
        self.received += other.received
