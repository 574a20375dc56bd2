"""The header in front of every packet of a TUN with IFF_VNET_HDR, and what it asks for: a checksum, or
splitting.

    parse -> GSO_NONE: finish (write the checksum that the kernel left out)
          -> else:     split  (one super-packet of up to 64 KiB into packets of the size of the path)

The names are those of linux/virtio_net.h. The header describes a packet that a pod wrote, so it is hostile
data: what does not fit the packet gives nothing, and hdr_len is not believed (a forwarded packet's may be
wrong): lengths are read from the packet's own headers.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from tulle.net.checksum import checksum, fold, pseudo_header_sum, word_sum
from tulle.net.packet import TCP, UDP, Buffer, addresses, transport

HEADER_BYTES = 10  # struct virtio_net_hdr

NEEDS_CSUM = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM
DATA_VALID = 2  # VIRTIO_NET_HDR_F_DATA_VALID

GSO_NONE = 0  # VIRTIO_NET_HDR_GSO_*
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80  # set beside one of the above: the first segment carries CWR

TCP_CSUM_OFFSET = 16  # RFC 9293 section 3.1
UDP_CSUM_OFFSET = 6  # RFC 768
_TCP_HEADER_BYTES = 20  # without options
_UDP_HEADER_BYTES = 8

_FIN, _PSH, _CWR = 0x01, 0x08, 0x80  # of byte 13 of the TCP header; CWR: RFC 3168

_PROTOCOLS = {GSO_TCPV4: TCP, GSO_TCPV6: TCP, GSO_UDP_L4: UDP}
_VERSIONS = {GSO_TCPV4: (4,), GSO_TCPV6: (6,), GSO_UDP_L4: (4, 6)}

_HEADER = Struct("=BBHHHH")  # native order: no TUNSETVNETLE or TUNSETVNETBE is set
_U16 = Struct("!H")
_U32 = Struct("!I")


class Header(NamedTuple):
    """struct virtio_net_hdr. Offsets are from the start of the packet, `csum_offset` from `csum_start`."""

    flags: int = 0
    gso_type: int = GSO_NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0


PLAIN = _HEADER.pack(*Header())
"""The header of a packet that is complete: what is written before each packet without offloads."""


def parse(data: Buffer) -> Header | None:
    """The header at the start of what was read from the TUN; None where that is too short."""
    return Header._make(_HEADER.unpack_from(data)) if len(data) >= HEADER_BYTES else None


def pack(header: Header) -> bytes:
    """Its 10 bytes. Raises struct.error on numbers that do not fit."""
    return _HEADER.pack(*header)


def finish(header: Header, packet: Buffer) -> Buffer | None:
    """A packet with GSO_NONE, complete: with NEEDS_CSUM a copy that has its checksum, else the packet itself.
    The checksum's field holds the pseudo-header's sum. None where the header points outside of the packet."""
    if not header.flags & NEEDS_CSUM:
        return packet
    start = header.csum_start
    field = start + header.csum_offset
    if field + 2 > len(packet):
        return None
    value = checksum(packet[start:])
    if not value and header.csum_offset == UDP_CSUM_OFFSET:
        value = 0xFFFF  # RFC 768: 0 would mean "no checksum"
    return b"".join((packet[:field], _U16.pack(value), packet[field + 2 :]))


def split(header: Header, packet: Buffer) -> list[Buffer]:
    """The complete packets that the header asks for, in order; a packet with GSO_NONE is finished. Empty
    where header and packet do not fit each other, or the type was never offered to the kernel."""
    kind = header.gso_type & ~GSO_ECN
    if kind == GSO_NONE:
        finished = finish(header, packet)
        return [] if finished is None else [finished]
    layout = _layout(kind, header, packet)
    if layout is None:
        return []
    network = _ipv4_headers if packet[0] >> 4 == 4 else _ipv6_headers
    segment = _tcp_segments if layout.protocol == TCP else _udp_segments
    pieces = _pieces(packet, layout, header.gso_size)
    joined = zip(network(packet, layout, pieces), segment(packet, layout, pieces), pieces, strict=True)
    return [b"".join(parts) for parts in joined]


class _Layout(NamedTuple):
    """Where the parts of a super-packet lie."""

    protocol: int
    start: int
    """Of the transport header."""
    end: int
    """Of the transport header: here the data begins."""
    pseudo_sum: int
    """The pseudo-header's sum without the length."""


def _layout(kind: int, header: Header, packet: Buffer) -> _Layout | None:
    """None where the virtio header and the packet contradict each other."""
    ends = addresses(packet)
    found = transport(packet)
    if ends is None or found is None or not header.gso_size or kind not in _PROTOCOLS:
        return None
    protocol, start, fragment_offset, more_fragments = found
    if (
        protocol != _PROTOCOLS[kind]
        or packet[0] >> 4 not in _VERSIONS[kind]
        or fragment_offset
        or more_fragments
    ):
        return None
    if header.flags & NEEDS_CSUM and header.csum_start != start:
        return None
    end = start + _UDP_HEADER_BYTES
    if protocol == TCP:
        if start + _TCP_HEADER_BYTES > len(packet):
            return None
        length = (packet[start + 12] >> 4) * 4
        if length < _TCP_HEADER_BYTES:
            return None
        end = start + length
    if end > len(packet):
        return None
    return _Layout(protocol, start, end, pseudo_header_sum(*ends, protocol, 0))


def _pieces(packet: Buffer, layout: _Layout, size: int) -> list[Buffer]:
    """The data in parts of `size` bytes, the last may be shorter; one empty part where there is no data."""
    return [packet[at : at + size] for at in range(layout.end, max(len(packet), layout.end + 1), size)]


def _ipv4_headers(packet: Buffer, layout: _Layout, pieces: list[Buffer]) -> list[bytes]:
    """Total length, identification + i and header checksum of each (RFC 791 section 3.1)."""
    header = bytearray(packet[: layout.start])
    first_id = int.from_bytes(header[4:6])
    header[2:6] = bytes(4)
    header[10:12] = bytes(2)
    common = word_sum(header)
    made = []
    for index, piece in enumerate(pieces):
        total = layout.end + len(piece)
        identification = (first_id + index) & 0xFFFF
        _U16.pack_into(header, 2, total)
        _U16.pack_into(header, 4, identification)
        _U16.pack_into(header, 10, fold(common + total + identification))
        made.append(bytes(header))
    return made


def _ipv6_headers(packet: Buffer, layout: _Layout, pieces: list[Buffer]) -> list[bytes]:
    """Payload length of each; extension headers are repeated as they are (RFC 8200 section 3)."""
    header = bytearray(packet[: layout.start])
    made = []
    for piece in pieces:
        _U16.pack_into(header, 4, layout.end + len(piece) - 40)
        made.append(bytes(header))
    return made


def _tcp_segments(packet: Buffer, layout: _Layout, pieces: list[Buffer]) -> list[bytes]:
    """Sequence number, flags and checksum of each: CWR only on the first, FIN and PSH only on the last."""
    header = bytearray(packet[layout.start : layout.end])
    (sequence,) = _U32.unpack_from(header, 4)
    flags = header[13]
    header[4:8] = bytes(4)
    header[13] = 0
    header[16:18] = bytes(2)
    common = word_sum(header) + layout.pseudo_sum + len(header)
    made = []
    for index, piece in enumerate(pieces):
        own = flags
        if index:
            own &= ~_CWR
        if index < len(pieces) - 1:
            own &= ~(_FIN | _PSH)
        header[13] = own
        _U32.pack_into(header, 4, sequence)
        total = common + len(piece) + own + (sequence >> 16) + (sequence & 0xFFFF) + word_sum(piece)
        _U16.pack_into(header, 16, fold(total))
        made.append(bytes(header))
        sequence = (sequence + len(piece)) & 0xFFFFFFFF
    return made


def _udp_segments(packet: Buffer, layout: _Layout, pieces: list[Buffer]) -> list[bytes]:
    """Length and checksum of each."""
    ports = bytes(packet[layout.start : layout.start + 4])
    common = word_sum(ports) + layout.pseudo_sum
    made = []
    for piece in pieces:
        length = _UDP_HEADER_BYTES + len(piece)
        # The length counts twice: in the pseudo-header and in the header.
        check = fold(common + 2 * length + word_sum(piece)) or 0xFFFF
        made.append(ports + _U16.pack(length) + _U16.pack(check))
    return made
