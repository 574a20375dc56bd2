"""Landlock without an exception: from then on this process opens no file, whatever its user may read.

It holds for the calling thread and those that it starts later, so it comes before the first extra thread. Descriptors
that are open, or that arrive over a socket, go on working. landlock(7); numbers from linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

# The same numbers on every architecture (landlock(7)).
CREATE_RULESET, RESTRICT_SELF = 444, 446
CREATE_RULESET_VERSION = 1

FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""By ABI: how many LANDLOCK_ACCESS_FS_* there are, from bit 0. Later ABIs of up to 7 have those of 5."""
NET_RIGHTS_SINCE, NET_RIGHTS = 4, 0b11  # to bind and to connect TCP
SCOPES_SINCE, SCOPES = 6, 0b11  # abstract Unix sockets, signals to processes outside

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """0: this kernel has none, or it is not switched on."""
    return max(0, int(_libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), CREATE_RULESET_VERSION)))


def close_files(found: int | None = None) -> str:
    """Returns what holds now, in words. Needs no_new_privs. Raises OSError where the kernel has Landlock and refuses.
    `found` is the ABI, asked for where None."""
    version = abi() if found is None else found
    if version < 1:
        return "files: not closed by Landlock, which this kernel lacks or does not switch on (lsm=)"
    handled = (1 << FILE_RIGHTS[min(version, max(FILE_RIGHTS))]) - 1
    attributes = struct.pack("=Q", handled)
    if version >= NET_RIGHTS_SINCE:
        attributes += struct.pack("=Q", NET_RIGHTS)
    if version >= SCOPES_SINCE:
        attributes += struct.pack("=Q", SCOPES)
    ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        _call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return f"no files (Landlock {version})"


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno() or errno.EIO
        raise OSError(error, f"Landlock, system call {number}: {os.strerror(error)}")
    return result
