"""The wake-up: inotify(7) on the store's directory, through ctypes. The plugin's only I/O beside SQLite's own."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

# <sys/inotify.h>
_IN_MODIFY = 0x00000002
_IN_MOVED_TO = 0x00000080
_IN_CREATE = 0x00000100
_IN_DELETE = 0x00000200
_IN_Q_OVERFLOW = 0x00004000
_MASK = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
_HEADER = struct.Struct("=iIII")  # struct inotify_event: wd, mask, cookie, length of the name behind it
_READ_BYTES = 64 << 10

_libc = ctypes.CDLL(None, use_errno=True)


class FileWatch:
    """Calls `on_change` on the event loop when a process has written to an SQLite file or its log.

    It may come early (before a commit can be seen), often, or not at all; so it is a hint to look, no more.
    """

    def __init__(self, path: Path, on_change: Callable[[], None]) -> None:
        # A commit in WAL mode appends to the log; the file itself changes at checkpoints, or when it is removed.
        self._names = {os.fsencode(path.name), os.fsencode(path.name + "-wal")}
        self._directory = path.parent
        self._on_change = on_change
        self._descriptor: int | None = None

    def start(self) -> bool:
        """Begin, on the running loop. False where the kernel has no watch left for this user
        (fs.inotify.max_user_instances) or the directory is not there: then only polling notices changes."""
        descriptor = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if descriptor < 0:
            return False
        if _libc.inotify_add_watch(descriptor, os.fsencode(self._directory), _MASK) < 0:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._read)
        return True

    def close(self) -> None:
        """End, on the loop that it was started on. Harmless where it never began."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def _read(self) -> None:
        if self._descriptor is None:
            return
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        if concerns(data, self._names):
            self._on_change()


def concerns(data: bytes, names: set[bytes]) -> bool:
    """Whether one of these inotify events is about one of these files (or some were lost)."""
    offset = 0
    while offset < len(data):
        _, mask, _, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        if mask & _IN_Q_OVERFLOW or data[offset : offset + length].rstrip(b"\0") in names:
            return True
        offset += length
    return False
