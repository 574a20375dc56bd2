"""The filter alone: what answers EPERM, what it does with another architecture's calls, and what is said without it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tulle.worker import syscalls

DANGEROUS = """
open openat openat2 creat execve execveat fork vfork clone clone3 socket socketpair connect bind listen ptrace
process_vm_readv process_vm_writev setns unshare mount bpf io_uring_setup keyctl kill tkill seccomp pidfd_getfd
memfd_create userfaultfd
"""
FILTERED = """
import errno, json, os, resource, socket, sys, threading
from tulle.worker import syscalls

held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
barrier, found = threading.Barrier(2), {}

def outcome(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"

def earlier():
    barrier.wait(10)
    barrier.wait(10)
    found["in an earlier thread"] = outcome(lambda: open("/etc/hostname"))

thread = threading.Thread(target=earlier)
thread.start()
barrier.wait(10)
load, words = syscalls.prepare()
load()
barrier.wait(10)
thread.join(10)
found |= {
    "mtu discovery": outcome(lambda: held.setsockopt(socket.IPPROTO_IP, 10, 2)),
    "segment size": outcome(lambda: held.setsockopt(socket.SOL_UDP, 103, 1400)),
    "a filter of its own": outcome(lambda: held.setsockopt(socket.SOL_SOCKET, 26, bytes(16))),
    "multicast": outcome(lambda: held.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, bytes(8))),
    "read a limit": outcome(lambda: resource.getrlimit(resource.RLIMIT_STACK)),
    "signal to itself": outcome(lambda: __import__("signal").pthread_kill(threading.get_ident(), 0)),
    "terminal": outcome(lambda: __import__("fcntl").ioctl(held, 0x5412, b"x")),
}
print(json.dumps({"words": words, "found": found}))
"""


def run(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_holds_for_threads_that_were_there_before_and_looks_at_arguments() -> None:
    answer = run(FILTERED)
    assert answer["words"].endswith("system calls, for all threads")
    assert answer["found"] == {
        "in an earlier thread": "EPERM",
        "mtu discovery": "allowed",
        "segment size": "allowed",
        "a filter of its own": "EPERM",
        "multicast": "EPERM",
        "read a limit": "allowed",
        "signal to itself": "allowed",
        "terminal": "EPERM",
    }


def test_without_libseccomp_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    load, words = syscalls.prepare()
    assert load is None
    assert words.startswith("system calls: not filtered")
    assert "install libseccomp2" in words


def test_nothing_is_allowed_twice_or_both_always_and_sometimes() -> None:
    assert len(set(syscalls.ALLOWED)) == len(syscalls.ALLOWED)
    assert not set(syscalls.ALLOWED) & {name for name, _ in syscalls.checked(1)}


def test_nothing_dangerous_is_always_allowed() -> None:
    assert not set(syscalls.ALLOWED) & set(DANGEROUS.split())


def test_a_call_that_this_libseccomp_does_not_know_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    known = syscalls.prepare()[1]
    monkeypatch.setattr(syscalls, "ALLOWED", (*syscalls.ALLOWED, "call_of_the_year_2040"))
    assert syscalls.prepare()[1] == known
