"""The ICMP error that a node without a way to the destination answers with, and the limit on how often.

A sender that hears "unreachable" gives up at once; without it, it waits for its time-out.
"""

from __future__ import annotations

from struct import Struct

from tulle.net.checksum import checksum, pseudo_header_sum
from tulle.net.packet import (
    ICMP,
    ICMPV6,
    IPV4_HEADER_BYTES,
    IPV6_HEADER_BYTES,
    Buffer,
    addresses,
    transport,
)

HOP_LIMIT = 64  # the default of RFC 1700, for TTL and Hop Limit
IPV4_ERROR_LIMIT_BYTES = 576  # whole datagram: RFC 1812 section 4.3.2.3
IPV6_ERROR_LIMIT_BYTES = 1280  # whole packet, the least MTU: RFC 4443 section 2.4 (c)

_ICMP_HEADER_BYTES = 8  # type, code, checksum, 4 unused bytes: RFC 792, RFC 4443 section 3.1
_V4_UNREACHABLE, _V4_NET_UNREACHABLE = 3, 0  # RFC 792
_V6_UNREACHABLE, _V6_NO_ROUTE = 1, 0  # RFC 4443 section 3.1
_V4_ERRORS = frozenset({3, 4, 5, 11, 12})  # RFC 1122 section 3.2.2
_V6_LAST_ERROR, _V6_REDIRECT = 127, 137  # RFC 4443 sections 2.1 and 2.4 (e)
_INTERNETWORK_CONTROL = 0xC0  # precedence of ICMP errors: RFC 1812 section 4.3.2.5
_DONT_FRAGMENT = 0x4000  # with it the identification may be 0: RFC 6864 section 4.1

_IPV4 = Struct("!BBHHHBBH4s4s")
_IPV6 = Struct("!IHBB16s16s")
_ERROR = Struct("!BBHI")


def unreachable(packet: Buffer, source: bytes) -> bytes | None:
    """The answer to `packet`, sent from `source` (packed): "network unreachable" (3/0) for IPv4, "no route to
    destination" (1/0) for IPv6. It quotes as much of the packet as may be quoted.

    None where no error may be sent (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)): the packet is broken,
    an ICMP error itself or not the first fragment, or one of its ends is no single host; and where `source`
    is not of the packet's family."""
    ends = addresses(packet)
    if ends is None or len(ends[0]) != len(source) or not all(map(_is_host, ends)):
        return None
    carried = transport(packet)
    if carried is None or carried.fragment_offset or _is_error(packet, carried.protocol, carried.offset):
        return None
    if len(source) == 4:
        return _error_v4(packet, source, ends[0])
    return _error_v6(packet, source, ends[0])


def _is_host(address: bytes) -> bool:
    """Whether it can be one host beyond this one: not unspecified, loopback, multicast or broadcast."""
    if len(address) == 4:
        # RFC 1122 section 3.2.1.3; 224/4 is multicast, 240/4 holds the limited broadcast.
        return 0 < address[0] < 224 and address[0] != 127
    return address[0] != 0xFF and int.from_bytes(address) > 1


def _is_error(packet: Buffer, protocol: int, offset: int) -> bool:
    """Whether it carries an ICMP error; also where it is too short to tell."""
    is_v4 = packet[0] >> 4 == 4
    if protocol != (ICMP if is_v4 else ICMPV6):
        return False
    if offset >= len(packet):
        return True
    kind = packet[offset]
    return kind in _V4_ERRORS if is_v4 else kind <= _V6_LAST_ERROR or kind == _V6_REDIRECT


def _error_v4(packet: Buffer, source: bytes, destination: bytes) -> bytes:
    quote = bytes(packet[: IPV4_ERROR_LIMIT_BYTES - IPV4_HEADER_BYTES - _ICMP_HEADER_BYTES])
    total = IPV4_HEADER_BYTES + _ICMP_HEADER_BYTES + len(quote)
    fields = (0x45, _INTERNETWORK_CONTROL, total, 0, _DONT_FRAGMENT, HOP_LIMIT, ICMP)
    check = checksum(_IPV4.pack(*fields, 0, source, destination))
    message = _ERROR.pack(_V4_UNREACHABLE, _V4_NET_UNREACHABLE, 0, 0) + quote
    error = _ERROR.pack(_V4_UNREACHABLE, _V4_NET_UNREACHABLE, checksum(message), 0)
    return _IPV4.pack(*fields, check, source, destination) + error + quote


def _error_v6(packet: Buffer, source: bytes, destination: bytes) -> bytes:
    quote = bytes(packet[: IPV6_ERROR_LIMIT_BYTES - IPV6_HEADER_BYTES - _ICMP_HEADER_BYTES])
    length = _ICMP_HEADER_BYTES + len(quote)
    message = _ERROR.pack(_V6_UNREACHABLE, _V6_NO_ROUTE, 0, 0) + quote
    check = checksum(message, pseudo_header_sum(source, destination, ICMPV6, length))
    error = _ERROR.pack(_V6_UNREACHABLE, _V6_NO_ROUTE, check, 0)
    return _IPV6.pack(6 << 28, length, ICMPV6, HOP_LIMIT, source, destination) + error + quote


class RateLimit:
    """A token bucket: `burst` at once, `rate_per_s` in the long run (RFC 1812 section 4.3.2.8, RFC 4443
    section 2.4 (f))."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        """Raises ValueError where nothing would ever be allowed, or more than can be counted."""
        if not rate_per_s > 0 or burst < 1:
            raise ValueError(
                f"rate {rate_per_s}/s, burst {burst}: give a positive rate and a burst of at least 1"
            )
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = float(burst)
        self._last: float | None = None

    def allow(self, now: float) -> bool:
        """Whether one more may be sent at `now` (monotonic seconds). Time that runs backwards earns
        nothing."""
        if self._last is not None and now > self._last:
            self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate_per_s)
        self._last = now if self._last is None else max(now, self._last)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
