"""What a lone interface's program reads and sets of its TUN: no more than MTU and queue, the rest is its caller's.
netdevice(7)."""

from __future__ import annotations

import fcntl
import socket
import struct

SIOCGIFMTU, SIOCSIFMTU, SIOCSIFTXQLEN = 0x8921, 0x8922, 0x8943  # linux/sockios.h

REQUEST = struct.Struct("=16si20x")
"""struct ifreq: the link's name, a number."""


def mtu(name: str) -> int:
    """Raises OSError (ENODEV: no such link)."""
    return _ask(SIOCGIFMTU, name, 0)


def set_mtu(name: str, value: int) -> None:
    """Raises OSError."""
    _ask(SIOCSIFMTU, name, value)


def set_queue(name: str, packets: int) -> None:
    """How many packets wait while nobody reads. Raises OSError."""
    _ask(SIOCSIFTXQLEN, name, packets)


def _ask(command: int, name: str, value: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        answer = fcntl.ioctl(control, command, REQUEST.pack(name.encode(), value))
    found: int = REQUEST.unpack(answer)[1]
    return found
