"""Packets whose sender left checksum and splitting to hardware, and then there was none. Pure.

A kernel's VXLAN device leaves both to the interface below it. A network card does it; a veth pair (nodes that are
containers, a lab) hands the packet on as it is, with a note that only kernels see. What is read from a UDP socket has
lost the note: the checksum field holds the pseudo-header's sum, and a packet can be longer than any link takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from tulle.contracts.encapsulation import Buffer
from tulle.net import gso
from tulle.net.packet import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, TCP, UDP

IPV4_PLAIN = 0x45
"""Version 4, and no options."""
FRAGMENT = 0x3FFF  # more fragments, or an offset: RFC 791 section 3.1
FIELDS = {TCP: gso.TCP_CSUM_OFFSET, UDP: gso.UDP_CSUM_OFFSET}
TCP_DATA_OFFSET = 12  # the byte whose high half is the header's length in words: RFC 9293 section 3.1


def is_partial(packet: Buffer) -> bool:
    """Whether its checksum field holds the pseudo-header's sum and nothing else. Of right checksums one in 65,535 does
    as well; finishing such a packet changes nothing."""
    found = _transport(packet)
    if found is None:
        return False
    protocol, start = found
    at = start + FIELDS[protocol]
    field = (packet[at] << 8) + packet[at + 1]
    ends = packet[12:20] if start == IPV4_HEADER_BYTES else packet[8:40]
    return bool(field) and (int.from_bytes(ends) + protocol + len(packet) - start - field) % 0xFFFF == 0


def _transport(packet: Buffer) -> tuple[int, int] | None:
    """Protocol and offset of a TCP or UDP header that lies right behind the IP header, with its checksum."""
    size = len(packet)
    if size > IPV4_HEADER_BYTES and packet[0] == IPV4_PLAIN:
        protocol, start = packet[9], IPV4_HEADER_BYTES
        if ((packet[6] << 8) + packet[7]) & FRAGMENT:
            return None
    elif size > IPV6_HEADER_BYTES and packet[0] >> 4 == 6:
        protocol, start = packet[6], IPV6_HEADER_BYTES
    else:
        return None
    return (protocol, start) if protocol in FIELDS and size >= start + FIELDS[protocol] + 2 else None


def finished(packet: Buffer, mtu: int) -> Sequence[Buffer]:
    """What it was meant to become; itself where it is whole (the kernel does with one that is too long what a router
    does). None where several UDP datagrams are one packet: where it was to be cut is not to be seen."""
    found = _transport(packet)
    if found is None:
        return (packet,)
    protocol, start = found
    header = gso.Header(gso.NEEDS_CSUM, csum_start=start, csum_offset=FIELDS[protocol])
    if len(packet) <= mtu:
        return gso.split(header, packet) if is_partial(packet) else (packet,)
    if protocol != TCP:
        return () if is_partial(packet) else (packet,)
    room = mtu - start - (packet[start + TCP_DATA_OFFSET] >> 4) * 4
    kind = gso.GSO_TCPV4 if start == IPV4_HEADER_BYTES else gso.GSO_TCPV6
    return gso.split(header._replace(gso_type=kind, gso_size=room), packet) if room > 0 else ()
