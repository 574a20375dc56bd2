"""ICMP echo to many addresses at once, of both families (RFC 792, RFC 4443 section 4).

Its own small one, because a lab asks for all pairs at a time and must not depend on the host's package.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Sequence

ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
"""Family -> type of the request, type of the reply."""

HEADER = struct.Struct("!BBHHH")
MARK = struct.Struct("!Q")
"""Begins the payload: a number of this run and target, so that nobody else's reply is counted."""


def checksum(data: bytes) -> int:
    """RFC 1071, over an even number of bytes."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(kind: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """For IPv6 the kernel replaces the checksum by one over the pseudo header too (RFC 3542 section 3.1)."""
    blank = HEADER.pack(kind, 0, 0, identifier, sequence) + payload
    return HEADER.pack(kind, 0, checksum(blank), identifier, sequence) + payload


def read_reply(family: int, packet: bytes) -> tuple[int, int] | None:
    """(mark, sequence) of an echo reply; None for anything else. A raw IPv4 socket gives the IP header too."""
    if family == socket.AF_INET:
        packet = packet[(packet[0] & 0xF) * 4 :] if packet else b""
    if len(packet) < HEADER.size + MARK.size or packet[0] != ECHO[socket.AddressFamily(family)][1]:
        return None
    return MARK.unpack_from(packet, HEADER.size)[0], HEADER.unpack_from(packet)[4]


def ping(addresses: Sequence[str], count: int, interval_s: float, wait_s: float, size: int) -> dict[str, int]:
    """Send `count` requests with `size` bytes of payload to each address. Returns how many were answered, by address,
    `wait_s` after the last request at the latest."""
    run = int.from_bytes(os.urandom(6), "big") << 16
    targets = {run + number: address for number, address in enumerate(addresses)}
    families = {address: family_of(address) for address in addresses}
    sockets = {
        family: socket.socket(family, socket.SOCK_RAW, protocol_of(family))
        for family in set(families.values())
    }
    answered: dict[str, set[int]] = {address: set() for address in addresses}
    try:
        for sequence in range(count):
            for mark, address in targets.items():
                family = families[address]
                payload = MARK.pack(mark).ljust(size, b"\0")[: max(size, MARK.size)]
                payload += b"\0" * (len(payload) % 2)
                send(sockets[family], echo_request(ECHO[family][0], run & 0xFFFF, sequence, payload), address)
            last = sequence == count - 1
            collect(
                sockets, targets, answered, wait_s if last else interval_s, sequence + 1 if last else None
            )
    finally:
        for opened in sockets.values():
            opened.close()
    return {address: len(found) for address, found in answered.items()}


def send(opened: socket.socket, packet: bytes, address: str) -> None:
    """A target that cannot be reached is one that does not answer."""
    try:
        opened.sendto(packet, (address, 0))
    except OSError:
        return


def collect(
    sockets: dict[socket.AddressFamily, socket.socket],
    targets: dict[int, str],
    answered: dict[str, set[int]],
    wait_s: float,
    enough: int | None,
) -> None:
    """Read replies for a time, or until each target has given `enough`."""
    by_socket = {opened: family for family, opened in sockets.items()}
    deadline = time.monotonic() + wait_s
    while (left := deadline - time.monotonic()) > 0:
        if enough is not None and all(len(found) >= enough for found in answered.values()):
            return
        readable, _, _ = select.select(list(by_socket), [], [], left)
        for opened in readable:
            reply = read_reply(by_socket[opened], opened.recv(65535))
            if reply and reply[0] in targets:
                answered[targets[reply[0]]].add(reply[1])


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def protocol_of(family: socket.AddressFamily) -> int:
    return socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
