"""An engine that a hostile packet has taken over: it tries what it must not be able to do. Run by test_sandbox.

`tulle.forward.main` loads it as any engine. Its one line on standard output is what became of each try; then it waits
until its standard input ends.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import os
import resource
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

pyseccomp = import_module("pyseccomp")
MODE = os.environ.get("HOSTILE_MODE", "try")
LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, CLONE_NEWUSER, PR_SET_DUMPABLE = 16, 0x10000000, 4
PROT_READ, PROT_WRITE, PROT_EXEC, MAP_PRIVATE, MAP_ANONYMOUS = 1, 2, 4, 2, 32
TOO_MUCH = 2 << 30
NOWHERE = -1
"""As a descriptor or process: what gets as far as looking at it answers EBADF or ESRCH."""

RAW: dict[str, tuple[Any, ...]] = {
    "process_vm_readv": (os.getpid(), None, 0, None, 0, 0),
    "setns": (NOWHERE, 0),
    "unshare": (CLONE_NEWUSER,),
    "connect": (NOWHERE, None, 0),
    "bind": (NOWHERE, None, 0),
    "listen": (NOWHERE, 0),
    "openat": (-100, b"/etc/hostname", 0),
    "open_by_handle_at": (NOWHERE, None, 0),
    "execve": (b"/bin/true", None, None),
    "execveat": (NOWHERE, b"", None, None, 0),
    "memfd_create": (b"", 0),
    "bpf": (NOWHERE, None, 0),
    "io_uring_setup": (1, None),
    "userfaultfd": (1,),
    "perf_event_open": (None, 0, -1, -1, 0),
    "keyctl": (NOWHERE,),
    "prctl": (PR_SET_DUMPABLE, 1, 0, 0, 0),
    "chdir": (b"/",),
    "newfstatat": (-100, b"/", None, 0),
    "setresuid": (-1, -1, -1),
    "mount": (b"", b"", b"", 0, None),
    "clone3": (None, 0),
    "prlimit64": (0, resource.RLIMIT_CORE, bytes(16), None),
    "ptrace": (PTRACE_ATTACH, NOWHERE, None, None),
}
NUMBERS = {name: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) for name in RAW}


def raw(name: str) -> None:
    arguments = [ctypes.c_long(one) if isinstance(one, int) else one for one in RAW[name]]
    if LIBC.syscall(ctypes.c_long(NUMBERS[name]), *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")


def run_written_code() -> None:
    LIBC.mmap.restype = ctypes.c_long
    kind = PROT_READ | PROT_WRITE | PROT_EXEC
    found = LIBC.mmap(None, ctypes.c_size_t(4096), kind, MAP_PRIVATE | MAP_ANONYMOUS, -1, ctypes.c_long(0))
    if found == -1:
        raise OSError(ctypes.get_errno(), "")


FORBIDDEN: dict[str, Callable[[], object]] = {
    "open": lambda: open("/etc/hostname").close(),
    "fork": lambda: os.fork() or os._exit(0),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "socketpair": socket.socketpair,
    "signal to tulled": lambda: os.kill(os.getppid(), 0),
    "memory with code": run_written_code,
    "list files": lambda: os.listdir("/"),
    **{f"raw {name}": (lambda name=name: raw(name)) for name in RAW},  # type: ignore[misc]
}


def needed(pair: tuple[socket.socket, socket.socket]) -> None:
    """What a forwarder does all day; raises OSError where it may not."""
    one, other = pair
    copy = os.dup(one.fileno())
    socket.send_fds(one, [b"x"], [copy])
    os.close(copy)
    _, (received,), _, _ = socket.recv_fds(other, 10, 1)
    again = socket.socket(fileno=received)
    again.setblocking(False)
    again.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    again.close()
    poll = select.epoll()
    poll.register(other.fileno(), select.EPOLLIN)
    poll.poll(0.01)
    poll.close()
    secrets.token_bytes(32)
    bytearray(64 << 20)
    gc.collect()
    time.sleep(0.001)
    in_thread: list[int] = []
    thread = threading.Thread(target=lambda: in_thread.append(threading.get_native_id()))
    thread.start()
    thread.join(10)
    assert in_thread


def outcome(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    except MemoryError:
        return "MemoryError"
    return "allowed"


class Hostile:
    name = "hostile"

    def __init__(self, make_encapsulation: Callable[..., Any]) -> None:
        self._pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        if MODE == "thread":
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

    def self_test(self) -> Sequence[str]:
        return ["the self-test ran with " + outcome(FORBIDDEN["open"])]

    def run(self, control: Any) -> None:
        if MODE == "raise":
            raise RuntimeError("a fault in the engine")
        if MODE == "crash":
            ctypes.string_at(0)
        found: dict[str, str] = {}
        thread = threading.Thread(target=self._try_all, args=(found,))
        thread.start()
        thread.join(60)
        stays = threading.Thread(target=os.read, args=(sys.stdin.fileno(), 1), daemon=True)
        stays.start()
        print(json.dumps({"found": found, "notes": control._handler.hello().notes}), flush=True)
        stays.join(60)

    def _try_all(self, found: dict[str, str]) -> None:
        for name, action in FORBIDDEN.items():
            found[name] = outcome(action)
        found["too much memory"] = outcome(lambda: bytearray(TOO_MUCH))
        found["needed"] = outcome(lambda: needed(self._pair))

    def set_descriptors(self, queues: Sequence[int], sockets: Sequence[socket.socket]) -> None: ...

    def counters(self) -> Mapping[str, int]:
        return {}
