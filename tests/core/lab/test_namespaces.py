"""The system calls that Python 3.11 lacks."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from tulle.lab import namespaces as ns

IN_A_CHILD = """
import os
from tulle.lab import namespaces as ns
ns.unshare(ns.CLONE_NEWUSER | ns.CLONE_NEWNET | ns.CLONE_NEWUTS)
ns.sethostname("elsewhere")
first = os.open("/proc/self/ns/net", os.O_RDONLY)
ns.unshare(ns.CLONE_NEWNET)
here = os.readlink("/proc/self/ns/net")
with ns.network_of(first):
    assert os.stat("/proc/thread-self/ns/net").st_ino == os.fstat(first).st_ino
assert os.readlink("/proc/self/ns/net") == here
print(os.uname().nodename)
"""


def test_an_error_has_the_kernels_number_and_says_what_it_was_about() -> None:
    with pytest.raises(OSError, match="/no/such/place") as caught:
        ns.mount("tmpfs", "/no/such/place", "tmpfs")
    assert caught.value.errno in (errno.ENOENT, errno.EPERM)
    with pytest.raises(OSError, match="setns") as caught:
        ns.setns(-1, ns.CLONE_NEWNET)
    assert caught.value.errno == errno.EBADF


@pytest.mark.lab
def test_a_network_namespace_is_entered_for_a_while_and_left_again() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_CHILD], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "elsewhere\n"
