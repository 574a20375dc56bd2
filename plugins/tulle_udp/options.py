"""What may stand beside `"Type": "udp"` in the network config."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tulle.net.packet import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES

DEFAULT_PORT = 8285  # flannel's
SMALLEST_MTU, LARGEST_MTU = 576, 65535  # RFC 791: what every host must take, and what a length field holds
UDP_HEADER_BYTES = 8  # RFC 768
OVERHEAD_BYTES = {4: IPV4_HEADER_BYTES + UDP_HEADER_BYTES, 6: IPV6_HEADER_BYTES + UDP_HEADER_BYTES}


class UdpOptions(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """Checked when the network config is read; a wrong value is a configuration error."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = DEFAULT_PORT
    """Where every node of the cluster listens."""
    source_check: Literal["strict", "peer"] = "strict"
    """See README."""
    mtu: int = msgspec.field(default=0, name="MTU")
    """Of the underlay; 0: the interface's own."""
    direct_routing: bool = False
    """Plain routes to peers on the same link."""

    def __post_init__(self) -> None:
        if self.mtu != 0 and not SMALLEST_MTU <= self.mtu <= LARGEST_MTU:
            raise ValueError(
                f"MTU: {self.mtu} is no MTU of an underlay; give {SMALLEST_MTU} to {LARGEST_MTU}, or leave it out"
            )
