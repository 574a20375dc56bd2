"""ICMP messages that a node sends to find out: echo, IPv4 timestamps, and the errors that come back. Pure.

One path for RFC 792 and RFC 4443: both have the same header, only the numbers differ. A message begins at the ICMP
header. What cannot be read is None.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from tulle.net.checksum import checksum
from tulle.net.packet import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES
from tulle.net.prefix import Family

HEADER = Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence number."""

REQUEST: dict[Family, int] = {4: 8, 6: 128}  # RFC 792, RFC 4443 section 4.1
REPLY: dict[Family, int] = {4: 0, 6: 129}
TIMESTAMP, TIMESTAMP_REPLY = 13, 14  # RFC 792; IPv6 has nothing of the kind

OVERHEAD_BYTES: dict[Family, int] = {
    4: IPV4_HEADER_BYTES + HEADER.size,
    6: IPV6_HEADER_BYTES + HEADER.size,
}
"""IP and ICMP header: what a packet has beside the payload of its echo."""

DAY_MS = 24 * 3600 * 1000
_TIMES = Struct("!III")
_NOT_UTC = 1 << 31
"""The high bit of a time that is not milliseconds since midnight UTC (RFC 792)."""

_UNREACHABLE: dict[Family, int] = {4: 3, 6: 1}
_TIME_EXCEEDED: dict[Family, int] = {4: 11, 6: 3}
_V6_TOO_BIG = 2
_V4_TOO_BIG = 4  # a code of "unreachable": RFC 1191 section 4
_CODES: dict[Family, dict[int, str]] = {
    # RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1
    4: {0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable"}
    | dict.fromkeys((9, 10, 13), "administratively prohibited"),
    # RFC 4443 section 3.1
    6: {
        0: "no route to destination",
        1: "administratively prohibited",
        3: "address unreachable",
        4: "port unreachable",
        5: "administratively prohibited",
        6: "administratively prohibited",
    },
}


class Reply(NamedTuple):
    """An echo reply."""

    identifier: int
    sequence: int
    payload: bytes


class Refusal(NamedTuple):
    """An error in answer to an echo request of somebody's."""

    identifier: int
    sequence: int
    reason: str
    """For people: "host unreachable"."""
    mtu: int
    """Of the hop that the packet was too big for; 0: another reason, or it does not say."""


class Times(NamedTuple):
    """An answered timestamp request, in milliseconds since midnight UTC."""

    sent: int
    received: int
    returned: int


def echo_request(family: Family, identifier: int, sequence: int, payload: bytes) -> bytes:
    """For IPv6 the kernel replaces the checksum by one over the pseudo header too (RFC 3542 section 3.1)."""
    return _message(REQUEST[family], identifier, sequence, payload)


def timestamp_request(identifier: int, sequence: int, now_ms: int) -> bytes:
    """`now_ms`: of this day in UTC."""
    return _message(TIMESTAMP, identifier, sequence, _TIMES.pack(now_ms % DAY_MS, 0, 0))


def _message(kind: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    blank = HEADER.pack(kind, 0, 0, identifier, sequence) + payload
    return HEADER.pack(kind, 0, checksum(blank), identifier, sequence) + payload


def without_ip_header(family: Family, packet: bytes) -> bytes:
    """What a raw socket gave, from its ICMP header on: only IPv4's gives the IP header too (ip(7), ipv6(7))."""
    return packet[(packet[0] & 0xF) * 4 :] if family == 4 and packet else packet


def read_reply(family: Family, message: bytes) -> Reply | None:
    if len(message) < HEADER.size or message[0] != REPLY[family]:
        return None
    _, _, _, identifier, sequence = HEADER.unpack_from(message)
    return Reply(identifier, sequence, message[HEADER.size :])


def read_times(message: bytes, identifier: int) -> Times | None:
    """The answer to a timestamp request of ours; None too where its clock does not count in UTC."""
    if len(message) < HEADER.size + _TIMES.size or message[0] != TIMESTAMP_REPLY:
        return None
    if HEADER.unpack_from(message)[3] != identifier:
        return None
    times = Times(*_TIMES.unpack_from(message, HEADER.size))
    return None if any(one & _NOT_UTC for one in times) else times


def offset_ms(times: Times, heard_ms: int) -> int:
    """By how much the other clock is ahead of ours, the way there and back taken as equal; `heard_ms` as
    `timestamp_request`'s time. Counted within half a day: more cannot be told from such messages."""
    there = _within_half_a_day(times.received - times.sent)
    back = _within_half_a_day(times.returned - heard_ms)
    return (there + back) // 2


def _within_half_a_day(difference: int) -> int:
    return (difference + DAY_MS // 2) % DAY_MS - DAY_MS // 2


def read_refusal(family: Family, message: bytes) -> Refusal | None:
    """An error that quotes an echo request."""
    if len(message) < HEADER.size:
        return None
    kind, code = message[0], message[1]
    mtu = 0
    if kind == _TIME_EXCEEDED[family]:
        reason = "time exceeded"
    elif (family, kind) == (6, _V6_TOO_BIG) or (family, kind, code) == (4, _UNREACHABLE[4], _V4_TOO_BIG):
        reason = "packet too big"
        mtu = int.from_bytes(message[6:8] if family == 4 else message[4:8])
    elif kind == _UNREACHABLE[family]:
        reason = _CODES[family].get(code, f"unreachable (code {code})")
    else:
        return None
    quoted = _quoted(family, message[HEADER.size :])
    return None if quoted is None else Refusal(*quoted, reason, mtu)


def _quoted(family: Family, packet: bytes) -> tuple[int, int] | None:
    """Identifier and sequence number of the echo request in a quoted packet, of which at least 8 bytes behind the IP
    header are there (RFC 792)."""
    if not packet:
        return None
    start = (packet[0] & 0xF) * 4 if family == 4 else IPV6_HEADER_BYTES
    inner = packet[start:]
    if packet[0] >> 4 != family or len(inner) < HEADER.size or inner[0] != REQUEST[family]:
        return None
    _, _, _, identifier, sequence = HEADER.unpack_from(inner)
    return identifier, sequence
