"""Packets made and checked the slow way, as an independent witness: loops over bytes, nothing from tulle."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest


def naive_checksum(data: bytes) -> int:
    """RFC 1071, word by word with end-around carry."""
    data = bytes(data) + b"\0" * (len(data) % 2)
    total = 0
    for at in range(0, len(data), 2):
        total += data[at] << 8 | data[at + 1]
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ipv4(source: bytes, destination: bytes, protocol: int, body: bytes, **fields: int) -> bytes:
    """Fields: identification, flags (the word at byte 6), ttl, options (how many words of them)."""
    words = 5 + fields.get("options", 0)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | words,
        fields.get("tos", 0),
        words * 4 + len(body),
        fields.get("identification", 0),
        fields.get("flags", 0),
        fields.get("ttl", 64),
        protocol,
        0,
        source,
        destination,
    ) + b"\x01" * (words * 4 - 20)
    return header[:10] + naive_checksum(header).to_bytes(2, "big") + header[12:] + body


def ipv6(source: bytes, destination: bytes, protocol: int, body: bytes) -> bytes:
    return struct.pack("!IHBB16s16s", 6 << 28, len(body), protocol, 64, source, destination) + body


def ip(source: bytes, destination: bytes, protocol: int, body: bytes) -> bytes:
    return (ipv4 if len(source) == 4 else ipv6)(source, destination, protocol, body)


def pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, length)
    return source + destination + struct.pack("!IHBB", length, 0, 0, protocol)


def tcp(sequence: int, flags: int, payload: bytes, option_words: int = 0) -> bytes:
    """Its checksum field is zero."""
    header = struct.pack("!HHIIBBHHH", 1234, 80, sequence, 77, (5 + option_words) << 4, flags, 500, 0, 0)
    return header + b"\x01" * (option_words * 4) + payload


def udp(payload: bytes) -> bytes:
    """Its checksum field is zero."""
    return struct.pack("!HHHH", 1234, 53, 8 + len(payload), 0) + payload


@pytest.fixture(scope="session")
def slow() -> SimpleNamespace:
    """The builders above."""
    return SimpleNamespace(
        checksum=naive_checksum, ip=ip, ipv4=ipv4, ipv6=ipv6, pseudo=pseudo, tcp=tcp, udp=udp
    )
