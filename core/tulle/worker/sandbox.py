"""How a worker gives up its rights: user, capabilities, new privileges, core dumps. By system calls through libc.

Call it after all imports and self-tests and before the first extra thread: capabilities belong to threads.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource

# linux/prctl.h
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
MAX_CAPABILITY = 63

USERS = ("tulle", "nobody")
"""The first that exists is what a worker becomes."""

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> int:
    full = [ctypes.c_ulong(one) for one in (*arguments, 0, 0, 0, 0)[:4]]
    result: int = _libc.prctl(ctypes.c_int(option), *full)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl {option}: {os.strerror(error)}")
    return result


def set_process_name(name: str) -> None:
    """What `ps -o comm` shows; at most 15 bytes (prctl(2))."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _libc.prctl(PR_SET_NAME, buffer, 0, 0, 0)


def drop_rights() -> list[str]:
    """Become an unprivileged user without capabilities and without a way to new ones. Returns what was done, in words.

    In a user namespace that maps no other user the user stays and the rest is done. Raises OSError only where a
    process could keep rights that it has.
    """
    done: list[str] = []
    _drop_bounding_set()
    if os.geteuid() == 0:
        done.append(_become_unprivileged())
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _clear_capabilities()
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    done.append("no capabilities, no new privileges")
    return done


def _drop_bounding_set() -> None:
    for capability in range(MAX_CAPABILITY + 1):
        try:
            if _prctl(PR_CAPBSET_READ, capability):
                _prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            # EINVAL: this kernel has no such capability. EPERM: we may not, and so never had CAP_SETPCAP.
            break


def _become_unprivileged() -> str:
    for name in USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        try:
            os.setgroups([])
            os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
            os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        except (OSError, PermissionError):
            return "user kept: this user namespace maps no other"
        return f"user {name}"
    return "user kept: there is neither a user 'tulle' nor 'nobody'"


def _clear_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, nothing) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"capset: {os.strerror(error)}")
