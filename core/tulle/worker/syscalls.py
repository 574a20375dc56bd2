"""The system calls that a worker may make when it is loaded; every other one answers EPERM. By libseccomp.

What is not here: anything with a path, exec, fork, socket, connect, bind, ptrace, namespaces, mount, bpf, io_uring,
keys, memory that can be executed. docs/decisions/0005 says why an unknown call is refused and not the process killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import termios
from collections.abc import Callable
from importlib import import_module
from typing import Any

MEMORY = "brk munmap mremap madvise"
THREADS = "futex set_robust_list rseq sched_yield sched_getaffinity getcpu gettid exit"
FILES = "read readv write writev close lseek fstat dup dup3 pipe2 eventfd2"
WAITING = (
    "epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect6 "
    "timerfd_create timerfd_settime timerfd_gettime"
)
SOCKETS = "recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg accept accept4 shutdown getsockname getpeername getsockopt"
TIME = "clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time"
SIGNALS = "rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall"
ITSELF = "getpid getppid getuid geteuid getgid getegid getrusage sysinfo uname getrandom exit_group"

ALLOWED = tuple(
    name
    for group in (MEMORY, THREADS, FILES, WAITING, SOCKETS, TIME, SIGNALS, ITSELF)
    for name in group.split()
)
"""Whatever their arguments. Names that an architecture lacks are passed over."""

PROT_EXEC = 4  # bits/mman.h
PR_SET_NAME = 15  # linux/prctl.h
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23  # linux/in.h, linux/in6.h
# linux/if_tun.h: what an engine may ask of a TUN.
TUNSETOFFLOAD, TUNGETIFF = 0x400454D0, 0x800454D2
INT = 0xFFFFFFFF
"""The kernel looks at the low half of an argument that is an int; what is above is left over from the caller."""

# linux/sched.h
CLONE_VM, CLONE_SIGHAND, CLONE_THREAD = 0x100, 0x800, 0x10000
CLONE_NEW = 0x80 | 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000
CLONE_OF_A_THREAD = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD

Test = tuple[int, int, int]
"""Argument number, mask, value: the masked argument equals the value."""


def checked(pid: int) -> list[tuple[str, tuple[Test, ...]]]:
    """Calls that are allowed with these arguments only; several of one name are alternatives."""
    found: list[tuple[str, tuple[Test, ...]]] = [
        ("clone", ((0, CLONE_OF_A_THREAD | CLONE_NEW, CLONE_OF_A_THREAD),)),
        ("mmap", ((2, PROT_EXEC, 0),)),
        ("mprotect", ((2, PROT_EXEC, 0),)),
        ("prctl", ((0, INT, PR_SET_NAME),)),
        # To read a limit, as glibc does for a thread's stack.
        ("prlimit64", ((0, INT, 0), (2, 2**64 - 1, 0))),
        # A signal to itself: how abort() and a handler of a crash end the process.
        ("tgkill", ((0, INT, pid),)),
        ("setsockopt", ((1, INT, socket.SOL_UDP),)),
        ("setsockopt", ((1, INT, socket.IPPROTO_IP), (2, INT, IP_MTU_DISCOVER))),
        ("setsockopt", ((1, INT, socket.IPPROTO_IPV6), (2, INT, IPV6_MTU_DISCOVER))),
    ]
    for command in (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC):
        found.append(("fcntl", ((1, INT, command),)))
    for request in (termios.FIONBIO, termios.FIOCLEX, termios.FIONCLEX, TUNSETOFFLOAD, TUNGETIFF):
        found.append(("ioctl", ((1, INT, request),)))
    return found


def prepare() -> tuple[Callable[[], None] | None, str]:
    """What puts the filter in force for all threads, and what holds then, in words. Call this while files can still
    be opened. None where there is no libseccomp."""
    try:
        seccomp = import_module("pyseccomp")
    except (ImportError, RuntimeError, OSError) as error:
        return None, (
            f"system calls: not filtered ({error}); install libseccomp2 and pyseccomp, then replace the forwarder"
        )
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    # Calls of another architecture (32 bits on 64) are nothing that a libc does by itself.
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    rules.set_attr(seccomp.Attr.CTL_TSYNC, 1)
    for attribute, value in (
        # The secrets here are its own: to slow its branches down (kernels before 5.16) guards nobody.
        (seccomp.Attr.CTL_SSB, 1),
        # A search tree instead of a list; libseccomp 2.5.
        (seccomp.Attr.CTL_OPTIMIZE, 2),
    ):
        with contextlib.suppress(OSError):
            rules.set_attr(attribute, value)
    count = _add(seccomp, rules)
    return rules.load, f"{count} system calls, for all threads"


def _add(seccomp: Any, rules: Any) -> int:
    """How many calls this architecture and this libseccomp know of those allowed."""
    known = {name for name in (*ALLOWED, *(name for name, _ in checked(0))) if _known(seccomp, name)}
    for name in ALLOWED:
        if name in known:
            rules.add_rule(seccomp.ALLOW, name)
    for name, tests in checked(os.getpid()):
        if name in known:
            conditions = [
                seccomp.Arg(number, seccomp.MASKED_EQ, mask, value) for number, mask, value in tests
            ]
            rules.add_rule(seccomp.ALLOW, name, *conditions)
    # Its flags lie in memory, where a filter cannot look. With this answer glibc takes clone.
    if _known(seccomp, "clone3"):
        rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    return len(known)


def _known(seccomp: Any, name: str) -> bool:
    return bool(seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0)
