"""What may stand beside `"Type": "vxlan"` in the network config."""

from __future__ import annotations

import msgspec

from tulle.contracts.backend import Family, Underlay
from tulle.net.packet import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES

DEFAULT_VNI = 1  # flannel's
DEFAULT_PORT = 8472  # the Linux kernel's, older than IANA's 4789
LARGEST_VNI = 9_999_999
"""A VNI has 24 bits (RFC 7348 section 5); its device is called flannel.<VNI>, and a name has 15 characters."""

UDP_HEADER_BYTES = 8  # RFC 768
VXLAN_HEADER_BYTES = 8  # RFC 7348 section 5
ETHERNET_HEADER_BYTES = 14
FRAME_BYTES = UDP_HEADER_BYTES + VXLAN_HEADER_BYTES + ETHERNET_HEADER_BYTES
OVERHEAD_BYTES = {4: IPV4_HEADER_BYTES + FRAME_BYTES, 6: IPV6_HEADER_BYTES + FRAME_BYTES}

SMALLEST_MTU = {4: 576, 6: 1280}  # RFC 791 (every host must take 576), RFC 8200 section 5
SMALLEST_UNDERLAY_MTU = 576  # RFC 791: what every host must take
CHECKSUMS = ("auto", "on", "off")
MODES = ("auto", "kernel", "userspace")
NO_GBP = "GBP: vxlan in user space does not carry it"


class VxlanOptions(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """Checked when the network config is read; a wrong value is a configuration error."""

    vni: int = msgspec.field(default=DEFAULT_VNI, name="VNI")
    port: int = 0
    """UDP, of every node of the cluster; 0: DEFAULT_PORT."""
    mtu: int = msgspec.field(default=0, name="MTU")
    """Of the underlay; 0: the interface's own."""
    gbp: bool = msgspec.field(default=False, name="GBP")
    learning: bool = False
    direct_routing: bool = False
    """Plain routes to peers on the same link."""
    mode: str = "auto"
    """One of MODES, see README."""
    tx_checksum: str = "auto"
    """"auto", "on" or "off", see README."""

    def __post_init__(self) -> None:
        if not 1 <= self.vni <= LARGEST_VNI:
            raise ValueError(
                f"VNI: {self.vni} cannot be used; give 1 to {LARGEST_VNI}, {DEFAULT_VNI} is flannel's"
            )
        if not 0 <= self.port <= 65535:
            raise ValueError(f"Port: {self.port} is no UDP port; give 1 to 65535, or 0 for {DEFAULT_PORT}")
        if self.mtu != 0 and not SMALLEST_UNDERLAY_MTU <= self.mtu <= 65535:
            raise ValueError(
                f"MTU: {self.mtu} is no MTU of an underlay; give {SMALLEST_UNDERLAY_MTU} to 65535, or leave it out"
            )
        if self.tx_checksum not in CHECKSUMS:
            raise ValueError(f'TxChecksum: {self.tx_checksum!r} is unknown; give "auto", "on" or "off"')
        if self.mode not in MODES:
            raise ValueError(f'Mode: {self.mode!r} is unknown; give "auto", "kernel" or "userspace"')
        if self.gbp and self.mode == "userspace":
            raise ValueError(f"{NO_GBP}; leave one of the two out")

    @property
    def udp_port(self) -> int:
        return self.port or DEFAULT_PORT


def device_mtu(options: VxlanOptions, underlay: Underlay, family: Family) -> int:
    """What the tunnel leaves for packets of a family. Raises ValueError where that is too little."""
    outer = options.mtu or underlay.mtu
    mtu = outer - OVERHEAD_BYTES[family]
    if mtu < SMALLEST_MTU[family]:
        raise ValueError(
            f"{underlay.link}: an MTU of {outer} leaves {mtu} bytes for a packet, {SMALLEST_MTU[family]} are "
            "needed; raise the MTU of the interface"
        )
    return mtu
