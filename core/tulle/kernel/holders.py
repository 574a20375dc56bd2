"""Who holds a UDP port or a TUN device, from /proc, for messages to people.

Sees what this process may see: other users' processes only as root, and none outside its PID namespace.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

PROC = Path("/proc")

LOCAL_ADDRESS, INODE = 1, 9
"""Columns of /proc/net/udp (proc(5), Documentation/networking/proc_net_tcp.rst)."""


class Holder(msgspec.Struct, frozen=True):
    """A process."""

    name: str
    pid: int

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def port_inodes(table: str, port: int) -> frozenset[int]:
    """The inodes of the sockets bound to a port, from the text of /proc/net/udp or udp6."""
    found = set()
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) > INODE and columns[LOCAL_ADDRESS].rpartition(":")[2] == f"{port:04X}":
            found.add(int(columns[INODE]))
    return frozenset(found)


def udp_port_holders(port: int) -> list[Holder]:
    """The processes with a UDP socket of either family on that port. Empty where it is the kernel's own (a vxlan
    device, say) or nothing that can be seen."""
    inodes: set[int] = set()
    for name in ("udp", "udp6"):
        # thread-self: a thread can live in another network namespace than its process.
        table = _text(PROC / "thread-self/net" / name)
        inodes |= port_inodes(table, port)
    wanted = {f"socket:[{inode}]" for inode in inodes if inode}
    return _holders(lambda pid, fd: _link(PROC / pid / "fd" / fd) in wanted) if wanted else []


def tun_holders(device: str) -> list[Holder]:
    """The processes of this network namespace that hold a descriptor of that TUN or TAP device. (Devices of one name
    can be in several namespaces, and a descriptor does not tell which one its device is in.)"""
    line = f"iff:\t{device}"
    here = _link(PROC / "thread-self/ns/net")

    def holds(pid: str, fd: str) -> bool:
        is_tun = _link(PROC / pid / "fd" / fd) == "/dev/net/tun" and here in _namespaces(pid)
        return is_tun and line in _text(PROC / pid / "fdinfo" / fd).splitlines()

    return _holders(holds)


def _holders(holds: Callable[[str, str], bool]) -> list[Holder]:
    found = []
    for pid in filter(str.isdigit, _names(PROC)):
        if any(holds(pid, fd) for fd in _names(PROC / pid / "fd")):
            found.append(Holder(_text(PROC / pid / "comm").strip() or "a process", int(pid)))
    return found


def _namespaces(pid: str) -> set[str]:
    """The network namespaces that its threads are in."""
    return {_link(PROC / pid / "task" / thread / "ns/net") for thread in _names(PROC / pid / "task")}


def _names(directory: Path) -> list[str]:
    """Empty where the process is gone or not ours to look at, as in the two functions below."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
