"""The Internet checksum (RFC 1071), made and changed.

2^16 is 1 modulo 0xffff, so the one's complement sum of a buffer's 16-bit words is the whole buffer, read as
one big number, modulo 0xffff: two steps in C instead of a loop in Python. The remainder cannot tell a sum of
0xffff from one of 0; in one's complement arithmetic both are zero, and only words that are all zero sum to 0.
"""

from __future__ import annotations

from tulle.net.packet import Buffer

_ONES = 0xFFFF


def _cuts(*bits: int) -> tuple[tuple[int, int], ...]:
    """(bits, mask of so many bits) of each."""
    return tuple((each, (1 << each) - 1) for each in bits)


_SHORT, _LONG = 1 << 3_000, 1 << 12_000
"""Up to _SHORT a number is divided as it is; up to _LONG, a packet of 1,500 bytes, cutting three times is enough."""
_CUTS = _cuts(5_760, 2_880, 1_440)
_LONG_CUTS = _cuts(368_640, 184_320, 92_160, 46_080, 23_040, 11_520)
"""Where a number is cut in two that are added: behind whole words and whole digits (30 bits) of Python's own."""


def word_sum(data: Buffer) -> int:
    """The one's complement sum of the words, 0..0xffff; an odd last byte is the high half of its word."""
    number = int.from_bytes(data)
    if len(data) & 1:
        number <<= 8
    return (remainder(number) or _ONES) if number else 0


def remainder(number: int) -> int:
    """A number >= 0 modulo 0xffff. To divide costs several times what it costs to add: halves are added first."""
    if number > _SHORT:
        if number > _LONG:
            for bits, mask in _LONG_CUTS:
                if number > mask:
                    number = (number >> bits) + (number & mask)
        for bits, mask in _CUTS:
            number = (number >> bits) + (number & mask)
    return number % _ONES


def fold(total: int) -> int:
    """The checksum for a plain sum of words: carries are added in, then all bits are turned."""
    return _ONES - (total % _ONES or _ONES) if total else _ONES


def checksum(data: Buffer, start: int = 0) -> int:
    """The checksum of the data, whose own checksum field holds zeros; `start` is added to the sum (a
    pseudo-header, a part that was summed before). 0 over data that carries its right checksum."""
    return fold(word_sum(data) + start)


def pseudo_header_sum(source: Buffer, destination: Buffer, protocol: int, length: int) -> int:
    """The sum of the pseudo-header of TCP, UDP and ICMPv6, for 4 and 16 byte addresses alike (RFC 9293
    section 3.1, RFC 768, RFC 8200 section 8.1): the layouts differ, their words do not. `length`: of
    transport header and data."""
    return word_sum(source) + word_sum(destination) + protocol + length


def update(check: int, old: Buffer, new: Buffer) -> int:
    """The checksum after `old` became `new` inside data that it covers (RFC 1624 section 3, equation 3). Both
    have the same even length and lie on word boundaries; else ValueError.

    As the RFC warns, the outcome for data that becomes all zeros is 0 and not 0xffff; no header is all
    zeros."""
    if len(old) != len(new) or len(old) & 1:
        raise ValueError(f"cannot replace {len(old)} bytes by {len(new)}: give whole words of equal number")
    total = (_ONES - check) + (_ONES - word_sum(old)) + word_sum(new)
    while total > _ONES:
        total = (total & _ONES) + (total >> 16)
    return _ONES - total
