"""What may stand beside `"Type": "udp"` in the network config."""

from __future__ import annotations

import msgspec

from tulle.net.packet import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES

DEFAULT_PORT = 8285  # flannel's
UDP_HEADER_BYTES = 8  # RFC 768
OVERHEAD_BYTES = {4: IPV4_HEADER_BYTES + UDP_HEADER_BYTES, 6: IPV6_HEADER_BYTES + UDP_HEADER_BYTES}


class UdpOptions(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """Checked when the network config is read; a wrong value is a configuration error."""

    port: int = DEFAULT_PORT
    """Where every node of the cluster listens, 1..65535."""
    source_check: str = "strict"
    """"strict" or "peer", see README."""
    mtu: int = msgspec.field(default=0, name="MTU")
    """Of the underlay; 0: the interface's own."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(
                f"Port: {self.port} is no UDP port; give 1 to 65535, {DEFAULT_PORT} is flannel's"
            )
        if self.source_check not in ("strict", "peer"):
            raise ValueError(f'SourceCheck: {self.source_check!r} is unknown; give "strict" or "peer"')
        if self.mtu != 0 and not 576 <= self.mtu <= 65535:
            raise ValueError(f"MTU: {self.mtu} is no MTU of an underlay; give 576 to 65535, or leave it out")
