"""A VXLAN header with the Ethernet header behind it (RFC 7348 section 5): made, and judged. Pure.

flags 08 | 0 0 0 | VNI (3 bytes) | 0 || receiver's MAC (6) | sender's MAC (6) | ethertype (2) || IP packet
"""

from __future__ import annotations

from typing import Literal

from tulle.contracts.encapsulation import Buffer
from tulle.net.packet import IPV6_HEADER_BYTES
from tulle.net.prefix import Family

VNI_FLAG = 0x08
"""I: the VNI is valid; must be set. All other bits of the first word are reserved and sent as 0."""
VXLAN_BYTES, MAC_BYTES, ETHERTYPE_BYTES = 8, 6, 2
HEADER_BYTES = VXLAN_BYTES + 2 * MAC_BYTES + ETHERTYPE_BYTES
TO_US_BYTES = VXLAN_BYTES + MAC_BYTES
"""All that is the same in each datagram for one device."""
PADDED_BYTES = HEADER_BYTES + 46
"""Ethernet's smallest payload (IEEE 802.3): shorter packets that a switch has handled were filled up to it."""
ETHERTYPE = slice(HEADER_BYTES - ETHERTYPE_BYTES, HEADER_BYTES)

# IEEE 802 numbers (linux/if_ether.h)
ETHERTYPES: dict[Family, bytes] = {4: b"\x08\x00", 6: b"\x86\xdd"}
VLAN_TAGS = (b"\x81\x00", b"\x88\xa8")

Fault = Literal["short", "flags", "vni", "vlan", "not-ip", "foreign-mac"]


def vxlan_header(vni: int) -> bytes:
    return bytes((VNI_FLAG, 0, 0, 0)) + vni.to_bytes(3, "big") + b"\0"


def header(vni: int, receiver: bytes, sender: bytes, family: Family) -> bytes:
    """All that stands before an IP packet of that family."""
    return vxlan_header(vni) + receiver + sender + ETHERTYPES[family]


def fault(datagram: Buffer, vni: int, macs: dict[Family, bytes]) -> Fault | None:
    """Why it is not for us, or no IP packet; None where nothing is wrong with these headers. `macs`: our own.

    A flag or a reserved byte that is set means an extension that we do not speak: Linux drops such datagrams too
    (vxlan_rcv in drivers/net/vxlan/vxlan_core.c)."""
    if len(datagram) <= HEADER_BYTES:
        return "short"
    wanted = vxlan_header(vni)
    if datagram[:4] != wanted[:4]:
        return "flags"
    if datagram[4:VXLAN_BYTES] != wanted[4:]:
        return "vni"
    kind = bytes(datagram[ETHERTYPE])
    if kind in VLAN_TAGS:
        return "vlan"
    family = next((one for one, ethertype in ETHERTYPES.items() if kind == ethertype), None)
    if family is None or datagram[HEADER_BYTES] >> 4 != family:
        return "not-ip"
    if datagram[VXLAN_BYTES:TO_US_BYTES] != macs.get(family):
        return "foreign-mac"
    return None


def unpadded(packet: Buffer) -> Buffer:
    """An IP packet without what a switch put behind its end (RFC 894). At least 46 bytes."""
    if packet[0] >> 4 == 4:
        return packet[: int.from_bytes(packet[2:4], "big")]
    return packet[: IPV6_HEADER_BYTES + int.from_bytes(packet[4:6], "big")]
