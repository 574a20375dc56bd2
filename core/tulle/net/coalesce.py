"""The other direction of `gso.split`: consecutive TCP segments of one flow become one super-packet, which the kernel
carries to the pod in one piece. Where it must cut again it makes the very same segments, byte by byte.

    group  which of the received packets leave together, by the rules below
    join   a group as it is written to a TUN: virtio header, headers, the data of each

A segment follows another if all of this holds:
- it is TCP over IPv4 without options or over IPv6 without extension headers, and no fragment;
- it carries data, as much as the one before it; only the last of a group may carry less;
- its flags are ACK, or ACK and PSH on the last;
- its sequence number is the next one, and so is its IPv4 identification;
- all else in both headers is equal: TTL, window, acknowledgement and options too;
- the checksums of both are right. A wrong one has to arrive as it was sent, and the kernel would make it right.

The packets are a stranger's: what breaks a rule stays alone, unchanged, and in its place within its flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from tulle.net import gso
from tulle.net.checksum import fold, pseudo_header_sum, remainder, word_sum
from tulle.net.packet import ICMP, ICMPV6, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, TCP, UDP, Buffer

MAX_BYTES = 65_535
"""Of a super-packet: the 16 bits of IPv4's total length (RFC 791 section 3.1)."""
MAX_SEGMENTS = 512
"""Ours: a vector of pieces may have 1,024 (IOV_MAX in limits.h)."""

_IPV4_PLAIN = 0x45  # version 4 and five words of header: no options
_IPV4_PARTS = Struct("!2xH2xH")  # total length, flags and fragment offset
_TCP_HEADER_BYTES = 20  # without options
_ACK, _PSH = 0x10, 0x08  # of byte 13 of the TCP header: RFC 9293 section 3.1
_NO_PORTS = frozenset({UDP, ICMP, ICMPV6})
_ALL_ONES = 0xFFFF
"""A checksum that means what 0 means. Nobody's arithmetic comes to it, the kernel's neither."""

_U16 = Struct("!H")


class _Shape:
    """Where the fields lie in network and TCP header, both together read as one number. One for each length of the
    two."""

    def __init__(self, start: int, tcp_bytes: int) -> None:
        self.start = start
        self.end = end = start + tcp_bytes
        ipv4 = start == IPV4_HEADER_BYTES

        def bit(field: int, width: int = 2) -> int:
            """Of the lowest bit of a field, which begins at a byte."""
            return 8 * (end - field - width)

        self.ipv4 = ipv4
        self.tcp_bits = 8 * tcp_bytes
        self.next_byte = 1 << bit(start + 4, 4)
        self.next_packet = 1 << bit(4) if ipv4 else 0
        self.check_bit = bit(start + 16)
        self.network_check_bit = bit(10)
        varying = [bit(start + 16), *((bit(2), bit(10)) if ipv4 else (bit(4),))]
        looked_at = sum(0xFFFF << one for one in varying) | _PSH << bit(start + 13, 1)
        self.equal = (1 << 8 * end) - 1 & ~looked_at
        """What must be equal, or the next: all but lengths, checksums and PSH."""


_SHAPES = {
    (start, words << 4): _Shape(start, 4 * words)
    for start in (IPV4_HEADER_BYTES, IPV6_HEADER_BYTES)
    for words in range(_TCP_HEADER_BYTES // 4, 16)
}
"""By start and byte 12 of the TCP header, whose low half is reserved (RFC 9293 section 3.1)."""


class _Run:
    """A group in the making, and what its next segment must look like."""

    __slots__ = ("bytes", "checked", "more", "segments", "shape", "size", "step", "sum", "want")

    def __init__(self, shape: _Shape, packet: Buffer) -> None:
        self.shape = shape
        self.segments = [packet]
        self.bytes = len(packet)
        self.size = len(packet) - shape.end
        self.more = True
        """Whether one may follow."""
        self.checked = False
        """Whether the first one's checksums were looked at, which is not before another one follows."""
        self.step = self.size * shape.next_byte + shape.next_packet
        self.want = (int.from_bytes(packet[: shape.end]) + self.step) & shape.equal
        # The pseudo-header's words, less what the network header adds to those of the whole packet. A right IPv4
        # header adds nothing, IPv6's length is in both.
        if shape.ipv4:
            self.sum = word_sum(packet[12:20]) + TCP - IPV4_HEADER_BYTES
        else:
            self.sum = TCP - word_sum(packet[:4]) - word_sum(packet[6:8])

    def take(self, packet: Buffer) -> bool:
        """Whether the packet, of the same flow, follows; it then belongs to the run."""
        shape = self.shape
        length = len(packet) - shape.end
        if not self.more or not 0 < length <= self.size or self.bytes + length > MAX_BYTES:
            return False
        number = int.from_bytes(packet)
        head = number >> 8 * length
        if head & shape.equal != self.want or not self._right(number, head, len(packet)):
            return False
        if not self.checked:
            first = int.from_bytes(self.segments[0])
            if not self._right(first, first >> 8 * self.size, self.bytes):
                return False
            self.checked = True
        self.segments.append(packet)
        self.bytes += length
        self.want = (self.want + self.step) & shape.equal
        pushed = packet[shape.start + 13] & _PSH
        self.more = not pushed and length == self.size and len(self.segments) < MAX_SEGMENTS
        return True

    def _right(self, number: int, head: int, size: int) -> bool:
        """Whether the checksums of a packet, as one number, are right."""
        shape = self.shape
        total = self.sum
        if shape.ipv4:
            if (head >> shape.tcp_bits) % _ALL_ONES or head >> shape.network_check_bit & 0xFFFF == _ALL_ONES:
                return False
            total += size
        rest = remainder(number)
        if size & 1:
            rest <<= 8  # the last byte is the high half of a word
        return not (rest + total) % _ALL_ONES and head >> shape.check_bit & 0xFFFF != _ALL_ONES


def group(packets: Sequence[Buffer]) -> list[list[Buffer]]:
    """Whole packets (`packet.addresses` knows them) as groups of one or more, in order but for what several flows
    have to do with each other: a group stands where its first packet stood."""
    groups: list[list[Buffer]] = []
    runs: dict[bytes, _Run | None] = {}
    for packet in packets:
        if packet[0] == _IPV4_PLAIN:
            protocol, start, flow = packet[9], IPV4_HEADER_BYTES, slice(12, 24)
        elif packet[0] >> 4 == 6:
            protocol, start, flow = packet[6], IPV6_HEADER_BYTES, slice(8, 44)
        else:
            protocol = start = 0
        if protocol == TCP:
            key = bytes(packet[flow])
            run = runs.get(key)
            if run is not None and run.take(packet):
                continue
            run = runs[key] = _start(packet, start)
            if run is not None:
                groups.append(run.segments)
                continue
        elif protocol not in _NO_PORTS:
            runs.clear()  # it may hide a segment of any flow
        groups.append([packet])
    return groups


def _start(packet: Buffer, start: int) -> _Run | None:
    """None for a packet that no other one may follow."""
    if len(packet) <= start + _TCP_HEADER_BYTES or packet[start + 13] != _ACK:
        return None
    if start == IPV4_HEADER_BYTES and (packet[6] & 0x3F or packet[7]):
        return None  # a fragment
    shape = _SHAPES.get((start, packet[start + 12]))
    return _Run(shape, packet) if shape is not None and len(packet) > shape.end else None


def join(segments: Sequence[Buffer]) -> list[Buffer]:
    """A group as the pieces that are written one after the other. One packet is written as it is."""
    first, last = segments[0], segments[-1]
    if len(segments) == 1:
        return [gso.PLAIN, first]
    ipv4 = first[0] == _IPV4_PLAIN
    start = IPV4_HEADER_BYTES if ipv4 else IPV6_HEADER_BYTES
    end = start + (first[start + 12] >> 4) * 4
    header = bytearray(first[:end])
    size = len(first) - end
    total = size * (len(segments) - 1) + len(last)
    if ipv4:
        _U16.pack_into(header, 2, total)
        _U16.pack_into(header, 10, 0)
        _U16.pack_into(header, 10, fold(word_sum(header[:start])))
        ends = header[12:16], header[16:20]
    else:
        _U16.pack_into(header, 4, total - start)
        ends = header[8:24], header[24:40]
    header[start + 13] = last[start + 13]
    pseudo = pseudo_header_sum(*ends, TCP, total - start)
    _U16.pack_into(header, start + 16, _ALL_ONES - fold(pseudo))
    kind = gso.GSO_TCPV4 if ipv4 else gso.GSO_TCPV6
    virtio = gso.Header(gso.NEEDS_CSUM, kind, end, size, start, gso.TCP_CSUM_OFFSET)
    return [gso.pack(virtio), header, *(segment[end:] for segment in segments)]
