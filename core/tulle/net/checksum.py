"""The Internet checksum (RFC 1071), made and changed.

2^16 is 1 modulo 0xffff, so the one's complement sum of a buffer's 16-bit words is the whole buffer, read as
one big number, modulo 0xffff: two steps in C instead of a loop in Python. The remainder cannot tell a sum of
0xffff from one of 0; in one's complement arithmetic both are zero, and only words that are all zero sum to 0.
"""

from __future__ import annotations

from tulle.net.packet import Buffer

_ONES = 0xFFFF


def word_sum(data: Buffer) -> int:
    """The one's complement sum of the words, 0..0xffff; an odd last byte is the high half of its word."""
    number = int.from_bytes(data)
    if len(data) & 1:
        number <<= 8
    return (number % _ONES or _ONES) if number else 0


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
