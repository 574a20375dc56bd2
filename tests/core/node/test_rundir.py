"""The run directory: one tulled of one directory, a record that is whole or not there, nothing else's touched."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tulle.node.rundir import AlreadyRunning, Record, RunDir

RECORD = Record(
    node="n1",
    node_id="0" * 32,
    state_dir="/var/lib/tulle",
    store="sqlite",
    store_prefix="/coreos.com/network",
    store_settings={"sqlite-file": "/var/lib/tulle/store.sqlite"},
    subnet_file="/run/flannel/subnet.env",
    subnet_file_text="FLANNEL_MTU=1472\n",
)
HOLD = """
import sys, time
from pathlib import Path
from tulle.node.rundir import RunDir
run_dir = RunDir(Path(sys.argv[1]))
run_dir.take()
print("taken", flush=True)
sys.stdin.read()
"""


def test_it_is_made_and_held_and_nobody_else_gets_it(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "a/b")
    assert run_dir.holder() is None
    run_dir.take()
    assert run_dir.path.stat().st_mode & 0o777 == 0o755
    assert run_dir.holder() == os.getpid()
    with pytest.raises(AlreadyRunning, match=rf"runs here already \(pid {os.getpid()}\); stop it"):
        RunDir(run_dir.path).take()


def test_the_lock_ends_with_its_process_also_when_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"taken\n"
        assert RunDir(tmp_path).holder() == child.pid
        child.kill()
        child.wait()
    assert RunDir(tmp_path).holder() is None
    again = RunDir(tmp_path)
    again.take()
    assert again.holder() == os.getpid()


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    RunDir(tmp_path).take()
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_lock_file_that_was_taken_away_while_somebody_waited_for_it_locks_nothing(tmp_path: Path) -> None:
    """Else two would hold a lock: one on the file that is gone, one on the next of that name."""
    lock = tmp_path / "tulled.lock"
    lock.touch()
    with lock.open() as gone:
        fcntl.flock(gone, fcntl.LOCK_EX)

        def take_away() -> None:
            lock.unlink()
            fcntl.flock(gone, fcntl.LOCK_UN)

        threading.Timer(0.1, take_away).start()
        run_dir = RunDir(tmp_path)
        run_dir.take()
    assert RunDir(tmp_path).holder() == os.getpid()


def test_who_leaves_a_directory_in_which_nothing_else_was_ever_put_takes_it_along(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    run_dir.take()
    run_dir.api_socket.touch()
    run_dir.leave()
    assert not run_dir.path.exists()


@pytest.mark.parametrize("other", ["node.json", "forwarder.sock", "somebody-elses"])
def test_who_leaves_a_directory_with_more_in_it_touches_nothing(tmp_path: Path, other: str) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.take()
    (tmp_path / other).touch()
    run_dir.leave()
    assert {one.name for one in tmp_path.iterdir()} == {"tulled.lock", other}


def test_who_only_looks_does_not_keep_tulled_from_starting(tmp_path: Path) -> None:
    """`tulle status` looks for the holder with a shared lock, for a moment."""
    lock = tmp_path / "tulled.lock"
    lock.touch()
    with lock.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        run_dir = RunDir(tmp_path)
        run_dir.take()
    assert run_dir.holder() == os.getpid()


def test_the_record_comes_back_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.write_record(RECORD)
    assert RunDir(tmp_path).record() == RECORD
    assert (tmp_path / "node.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [None, b"", b"{", b"[]", b'{"node": 1}', b"\xff"])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "node.json").write_bytes(text)
    assert RunDir(tmp_path).record() is None


def test_clearing_takes_our_files_and_leaves_others(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    run_dir.take()
    run_dir.write_record(RECORD)
    names = ("forwarder.sock", "forwarder-v6.sock", "forwarder-v6.sock.new", "forwarder-v6.log")
    for name in ("somebody.else", *names):
        (run_dir.path / name).touch()
    removed = run_dir.clear()
    assert {f"{run_dir.path / name}: removed" for name in names} <= set(removed)
    assert f"{run_dir.path / 'node.json'}: removed" in removed
    assert [one.name for one in run_dir.path.iterdir()] == ["somebody.else"]
    (run_dir.path / "somebody.else").unlink()
    assert run_dir.clear() == [f"{run_dir.path}: removed"]
    assert run_dir.clear() == []


@pytest.mark.parametrize("name", ["V6", "../x", "a b", "-", "a-", "a.sock"])
def test_a_plane_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name for a data plane"):
        RunDir(tmp_path).forwarder(name)


def test_planes_share_neither_socket_nor_marks(tmp_path: Path) -> None:
    first, second = (RunDir(tmp_path).forwarder(name) for name in ("", "v6"))
    assert first.socket != second.socket
    assert first.marks[0] != second.marks[0]  # one argument of each process: none has the other's


def test_a_lock_whose_file_was_removed_or_replaced_is_taken_again(tmp_path: Path) -> None:
    directory = RunDir(tmp_path / "run")
    assert directory.hold() is None  # not held yet
    directory.take()
    assert directory.hold() is None
    lock = tmp_path / "run" / "tulled.lock"
    for damage in (lock.unlink, lambda: lock.rename(lock.with_name("other"))):
        damage()
        assert directory.hold() == lock
        assert RunDir(tmp_path / "run").holder() == os.getpid()


def test_a_lock_that_another_tulled_has_taken_meanwhile_is_not_fought_for(tmp_path: Path) -> None:
    directory, other = RunDir(tmp_path), RunDir(tmp_path)
    directory.take()
    (tmp_path / "tulled.lock").unlink()
    other.take()
    with pytest.raises(AlreadyRunning):
        directory.hold()
