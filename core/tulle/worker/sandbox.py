"""How a worker gives up its rights, in this order: limits, user and capabilities, files, system calls.

`lock_down` is called after all imports and self-tests and before the first extra thread: capabilities and Landlock
belong to threads. What the kernel or the machine lacks is left out and said, in words for `tulle status`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import resource
import traceback

from tulle.worker import landlock, syscalls

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

MEMORY_BYTES = 1 << 30
"""Of a worker. 20,000 peers take 50 MB of it, 100,000 take 216 MB (measured, python engine); the rest of a node's
memory is not for a fault in a parser to use up."""
LOG_BYTES = 4 << 20
"""Of each file that it writes: its standard error lies in a run directory, which is memory."""

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


def leave_no_core() -> None:
    """From now on this process, which holds secrets, is never written to a file when it crashes, nor handed to a
    program that core_pattern names, for which RLIMIT_CORE does not count (core(5)); and only who has CAP_SYS_PTRACE may
    look into its memory. Programs that it starts are as free as ever."""
    _prctl(PR_SET_DUMPABLE, 0)


class TooManyThreads(Exception):
    """Something started a thread before the sandbox: that thread would keep all rights."""


def lock_down(memory_bytes: int = MEMORY_BYTES) -> list[str]:
    """All of it. Returns what holds, and what does not, in words. Raises TooManyThreads, and OSError where the kernel
    refuses what it has."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise TooManyThreads(
            f"{threads} threads run before the sandbox, one may: a plugin started them while it was imported, "
            "made or tested; threads are for Engine.run"
        )
    _load_what_comes_late()
    filter_calls, filtered = syscalls.prepare()
    done = [*drop_rights(), limit_memory(memory_bytes)]
    done.append(landlock.close_files())
    if filter_calls is not None:
        filter_calls()
    return [*done, filtered]


def limit_memory(memory_bytes: int) -> str:
    """RLIMIT_DATA, which counts what can be written (getrlimit(2)); RLIMIT_AS would count the 64 MiB of addresses that
    glibc keeps free for each thread too. Beyond it Python raises MemoryError."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        memory_bytes = min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    return f"at most {memory_bytes >> 20} MiB of memory"


def _load_what_comes_late() -> None:
    """What Python and glibc load at their first need, which would be after no file can be opened any more."""
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1")  # glibc ends threads with it
    try:
        raise RuntimeError
    except RuntimeError:
        traceback.format_exc()


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
    leave_no_core()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LOG_BYTES, LOG_BYTES))
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
