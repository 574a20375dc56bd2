"""Ports on this machine that nobody has at this moment, for servers that tests start."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence

PORTS = range(20000, 32000)
"""Below what the kernel hands out by itself (net.ipv4.ip_local_port_range), so that nobody takes the port of a server
that is down for a moment."""

_ATTEMPTS = 1000
_RANDOM = random.SystemRandom()


def free_port(hosts: Sequence[str]) -> int:
    """One that nobody has on any of these addresses. Raises OSError where there is none."""
    for _ in range(_ATTEMPTS):
        port = _RANDOM.choice(PORTS)
        if all(_bindable(host, port) for host in hosts):
            return port
    raise OSError(f"no free port in {PORTS.start}..{PORTS.stop - 1} on {', '.join(hosts)}")


def _bindable(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
