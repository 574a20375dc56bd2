"""Process 1 of a lab."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tulle.lab import Lab
from tulle.lab.init import LAB_DIR
from tulle.lab.plan import SWITCH

pytestmark = pytest.mark.lab


def eventually(check: Callable[[], bool], timeout: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_orphans_of_the_lab_are_its_children_and_are_waited_for(bare: Lab) -> None:
    init = bare.init.pid
    bare.run(SWITCH, ["sh", "-c", "sleep 0.3 >/dev/null 2>&1 &"])
    assert children_of(init)
    assert eventually(lambda: not children_of(init))


def test_the_lab_sees_its_own_processes_and_its_own_run_directory(bare: Lab) -> None:
    seen = bare.run(SWITCH, ["sh", "-c", "cat /proc/1/cmdline; ls /run"]).stdout
    assert f"tulle-lab:{bare.plan.name}" in seen
    assert seen.split("\0")[-1].split() == ["tulle-lab"]


def test_what_the_host_has_in_var_lib_is_still_there(bare: Lab) -> None:
    inside = set(bare.run(SWITCH, ["ls", "-A", "/var/lib"]).stdout.split())
    assert inside == set(os.listdir("/var/lib")) | {"tulle"}


def test_bytes_that_are_no_request_do_not_end_the_lab(bare: Lab) -> None:
    for message in (b"", b"{", b'["a", "b"]', b"7", b"x" * 4096):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(str(bare.directory / "keep.sock"))
            if message:
                socket.send_fds(client, [message], [client.fileno()])
    assert bare.run(SWITCH, ["echo", "there"]).stdout == "there\n"
    assert bare.init.alive()


def test_what_is_not_kept_is_closed_again(bare: Lab) -> None:
    before = len(os.listdir(f"/proc/{bare.init.pid}/fd"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(bare.directory / "keep.sock"))
        socket.send_fds(client, [b'["one", "two"]'], [client.fileno()])
        assert client.recv(16) == b""
    assert eventually(lambda: len(os.listdir(f"/proc/{bare.init.pid}/fd")) == before)
    (bare.directory / "ns" / "one").unlink()


def test_the_labs_directory_is_the_same_everywhere_and_the_nodes_run_directories_are_their_own(
    bare: Lab,
) -> None:
    bare.write_file("n1", f"{LAB_DIR}/shared", "for all")
    bare.write_file("n1", "/run/own", "n1's")
    bare.write_file("n1", "/var/lib/tulle/own", "n1's")
    assert bare.read_file("n2", f"{LAB_DIR}/shared") == "for all"
    assert bare.read_file("n1/p1", "/run/own") == "n1's"
    for path in ("/run/own", "/var/lib/tulle/own"):
        assert bare.run("n2", ["test", "-e", path], check=False).returncode == 1
