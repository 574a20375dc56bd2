"""Transmit checksum offload of a link, by the requests that ethtool's "tx" stands for (linux/ethtool.h)."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

SIOCETHTOOL = 0x8946  # linux/sockios.h
ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM = 0x16, 0x17

VALUE = struct.Struct("=II")
"""struct ethtool_value: command, value."""
REQUEST = struct.Struct("@16sP16x")
"""struct ifreq: the link's name, a pointer to the value."""


def tx_checksum(link: str) -> bool:
    """Whether checksums may be left to what is below the link. Raises OSError (ENODEV: no such link)."""
    return bool(_ask(link, ETHTOOL_GTXCSUM, 0))


def set_tx_checksum(link: str, on: bool) -> None:
    """Off also turns segmentation offload off: the kernel allows none without checksums. Raises OSError."""
    _ask(link, ETHTOOL_STXCSUM, int(on))


def _ask(link: str, command: int, value: int) -> int:
    buffer = ctypes.create_string_buffer(VALUE.pack(command, value), VALUE.size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, SIOCETHTOOL, REQUEST.pack(link.encode(), ctypes.addressof(buffer)))
    found: int = VALUE.unpack(buffer.raw)[1]
    return found
