"""Landlock alone, without the filter of system calls: files are closed, and what is open goes on working."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tulle.worker import landlock

CLOSED = """
import ctypes, errno, json, os, socket, sys, threading
from tulle.worker import landlock

def outcome(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"

ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, linux/prctl.h
there = open("/etc/hostname")
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
words = landlock.close_files(int(sys.argv[1]) if sys.argv[1] else None)
found = {
    "open": outcome(lambda: open("/etc/hostname")),
    "list": outcome(lambda: os.listdir("/")),
    "exec": outcome(lambda: os.execv("/bin/true", ["true"])),
    "read what is open": outcome(lambda: there.read()),
    "bind tcp": outcome(lambda: listener.bind(("127.0.0.1", 0))),
}
thread = threading.Thread(target=lambda: found.update({"in a later thread": outcome(lambda: open("/etc/hostname"))}))
thread.start()
thread.join(10)
print(json.dumps({"words": words, "found": found}))
"""

needs_landlock = pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")


def closed(abi: int | None = None) -> dict[str, Any]:
    command = [sys.executable, "-c", CLOSED, "" if abi is None else str(abi)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@needs_landlock
def test_no_file_can_be_opened_and_open_ones_can_be_read() -> None:
    answer = closed()
    assert answer["words"] == f"no files (Landlock {landlock.abi()})"
    found = answer["found"]
    tcp = found.pop("bind tcp")
    assert tcp == ("EACCES" if landlock.abi() >= landlock.NET_RIGHTS_SINCE else "allowed")
    assert found == {
        "open": "EACCES",
        "list": "EACCES",
        "exec": "EACCES",
        "read what is open": "allowed",
        "in a later thread": "EACCES",
    }


@needs_landlock
@pytest.mark.parametrize("abi", range(1, landlock.abi() + 1))
def test_every_older_interface_is_spoken_too(abi: int) -> None:
    assert closed(abi)["found"]["open"] == "EACCES"


def test_a_kernel_without_it_is_said() -> None:
    assert "lacks" in landlock.close_files(found=0)
    with open(os.devnull):  # and nothing was closed
        pass


@needs_landlock
def test_a_kernel_that_refuses_is_an_error_and_not_taken_for_success() -> None:
    """Without no_new_privs and CAP_SYS_ADMIN it refuses."""
    code = (
        "import ctypes, os; from tulle.worker import landlock, sandbox; sandbox._clear_capabilities();"
        "landlock.close_files()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode != 0
    assert "Landlock, system call 446: Operation not permitted" in done.stderr
