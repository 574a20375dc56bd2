"""What may stand beside `"Type": "wireguard"` in the network config: flannel's keys, and ExactOverhead."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from tulle.config.options import SECRET
from tulle_wireguard.constants import IPV4_OVERHEAD_BYTES, IPV6_OVERHEAD_BYTES
from tulle_wireguard.keytext import key_bytes

DEFAULT_PORT, DEFAULT_PORT_V6 = 51820, 51821  # flannel's
MODES = ("separate", "auto", "ipv4", "ipv6")
LARGEST_PORT = 65535
SMALLEST_UNDERLAY_MTU, LARGEST_UNDERLAY_MTU = 576, 65535
"""RFC 791: what every host must take, what a length can say."""
LARGEST_KEEPALIVE_S = 65535  # what wg(8) takes
OVERHEAD_BYTES = IPV6_OVERHEAD_BYTES  # flannel's, whatever the outer family

TextSecret = Annotated[str, SECRET]


class WireguardOptions(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """Checked when the network config is read; a wrong value is a configuration error."""

    psk: TextSecret = msgspec.field(default="", name="PSK")
    """Of the whole cluster, in base64; "": none."""
    listen_port: int = DEFAULT_PORT
    """UDP, of this node; where a peer's lease names no port, of that peer too."""
    listen_port_v6: int = DEFAULT_PORT_V6
    """Of the device for IPv6 in Mode separate."""
    mtu: int = msgspec.field(default=0, name="MTU")
    """Of the underlay; 0: the interface's own."""
    exact_overhead: bool = False
    """20 bytes more for a packet where all of them travel over IPv4. flannel nodes do not have them."""
    mode: str = "separate"
    """See README."""
    persistent_keepalive_interval: int = 0
    """Seconds; 0: none."""
    direct_routing: bool = False
    """Refused."""

    def __post_init__(self) -> None:
        if self.psk:
            _check_psk(self.psk)
        for name, port in (("ListenPort", self.listen_port), ("ListenPortV6", self.listen_port_v6)):
            if not 1 <= port <= LARGEST_PORT:
                raise ValueError(f"{name}: {port} is no UDP port; give 1 to {LARGEST_PORT}")
        if self.mtu != 0 and not SMALLEST_UNDERLAY_MTU <= self.mtu <= LARGEST_UNDERLAY_MTU:
            raise ValueError(
                f"MTU: {self.mtu} is no MTU of an underlay; give {SMALLEST_UNDERLAY_MTU} to {LARGEST_UNDERLAY_MTU}, "
                "or leave it out"
            )
        if self.mode not in MODES:
            raise ValueError(
                f'Mode: {self.mode[:20]!r} is unknown; give "separate", "auto", "ipv4" or "ipv6"'
            )
        if not 0 <= self.persistent_keepalive_interval <= LARGEST_KEEPALIVE_S:
            raise ValueError(
                f"PersistentKeepaliveInterval: {self.persistent_keepalive_interval} is no number of seconds that "
                f"WireGuard knows; give 1 to {LARGEST_KEEPALIVE_S} (25 keeps most NATs open), or 0 for none"
            )
        if self.direct_routing:
            raise ValueError(
                "DirectRouting: packets between nodes on one wire would then travel unencrypted; leave it out, or "
                'choose "Type": "host-gw" where nobody else can read that wire'
            )

    def __repr__(self) -> str:
        return f"WireguardOptions(mode={self.mode!r}, listen_port={self.listen_port}, psk hidden)"

    def __rich_repr__(self) -> Any:
        yield "mode", self.mode

    def overhead_bytes(self, outer: int) -> int:
        """What a packet grows by over an outer IPv4 or IPv6 header."""
        return IPV4_OVERHEAD_BYTES if self.exact_overhead and outer == 4 else OVERHEAD_BYTES


def _check_psk(text: str) -> None:
    """Raises ValueError, which does not hold the value."""
    try:
        key = key_bytes(text)
    except ValueError as error:
        raise ValueError(f"PSK: {error}; give one that `wg genpsk` makes, or leave it out for none") from None
    if not any(key):
        raise ValueError("PSK: it is all zeros, which is none at all; give one that `wg genpsk` makes")
