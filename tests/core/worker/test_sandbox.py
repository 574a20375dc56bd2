"""A process that gives up its rights really has none: looked at from inside, from /proc, and by trying.

`dropped` is the part that concerns user and capabilities; `Hostile` is a whole forwarder with an engine that tries.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tulle.worker import landlock, sandbox

DROP = """
import json, os, resource, sys
from tulle.worker import sandbox

sandbox.set_process_name("tulle-test-of-the-sandbox")
done = sandbox.drop_rights()

def refused(action):
    try:
        action()
    except OSError as error:
        return error.strerror
    return "allowed"

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "done": done,
    "status": {key: value.split() for key, value in status.items()},
    "owner_of_proc": os.stat("/proc/self/environ").st_uid,
    "open_secret": refused(lambda: open(sys.argv[1]).close()),
    "become_root": refused(lambda: os.setuid(0)),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
}))
"""
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NO_CAPABILITIES = "0" * 16


def dropped(secret: Path, *wrapper: str) -> dict[str, Any]:
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", DROP, str(secret)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("key")
    file.chmod(0o600)
    return file


@pytest.mark.skipif(os.getuid() != 0, reason="only root has rights to give up")
def test_root_becomes_an_unprivileged_user_with_no_way_back(secret: Path) -> None:
    found = dropped(secret)
    names = [entry.pw_name for entry in pwd.getpwall()]
    user = pwd.getpwnam("tulle" if "tulle" in names else "nobody")
    status = found["status"]
    assert status["Uid"] == [str(user.pw_uid)] * 4
    assert status["Gid"] == [str(user.pw_gid)] * 4
    assert status["Groups"] == []
    assert {name: status[name] for name in CAPABILITY_SETS} == {
        name: [NO_CAPABILITIES] for name in CAPABILITY_SETS
    }
    assert status["NoNewPrivs"] == ["1"]
    assert found["owner_of_proc"] == 0  # not dumpable: its /proc entries belong to root (proc(5))
    assert found["open_secret"] == "Permission denied"
    assert found["become_root"] == "Operation not permitted"
    assert found["core"] == [0, 0]
    assert found["done"] == [f"user {user.pw_name}", "no capabilities, no new privileges"]
    assert status["Name"] == ["tulle-test-of-t"]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1)")
def test_in_a_user_namespace_of_one_user_all_but_the_user_is_dropped(secret: Path) -> None:
    unshare = ("unshare", "--user", "--map-root-user")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel lets us make no user namespace")
    found = dropped(secret, *unshare)
    status = found["status"]
    assert status["Uid"] == ["0"] * 4
    assert {name: status[name] for name in CAPABILITY_SETS} == {
        name: [NO_CAPABILITIES] for name in CAPABILITY_SETS
    }
    assert status["NoNewPrivs"] == ["1"]
    assert found["done"] == [
        "user kept: this user namespace maps no other",
        "no capabilities, no new privileges",
    ]


def test_who_has_no_rights_loses_the_rest_without_complaint(secret: Path) -> None:
    """The second time there is nothing left to drop; a program that may be started twice must not fail."""
    again = DROP.replace("done = sandbox", "sandbox.drop_rights(); done = sandbox")
    done = subprocess.run([sys.executable, "-c", again, str(secret)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["done"] == ["no capabilities, no new privileges"]


HERE = Path(__file__).parent
WAIT_S = 30.0


class Hostile:
    """A forwarder with `hostile_engine`, in a directory that anybody may write to."""

    def __init__(self, directory: Path, mode: str) -> None:
        directory.chmod(0o777)
        self.directory = directory
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            words = ["--listen-fd", str(listener.fileno()), "--fingerprint", "the test's"]
            words += ["--engine", "hostile_engine:Hostile"]
            words += ["--encapsulation", "tulle_udp.encapsulation:PlainUdp"]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tulle.forward.main", "tulle-forwarder", *words],
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory,
                env={"PYTHONPATH": str(HERE), "HOSTILE_MODE": mode},
            )

    def answer(self) -> dict[str, Any]:
        """What became of all tries. The process stays."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.last_words()
        found: dict[str, Any] = json.loads(line)
        return found

    def last_words(self) -> str:
        """Wait for its end by itself."""
        _, errors = self.process.communicate(timeout=WAIT_S)
        return errors.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=WAIT_S)


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Callable[[str], Hostile]]:
    made: list[Hostile] = []

    def make(mode: str) -> Hostile:
        made.append(Hostile(tmp_path, mode))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_forwarder_that_was_taken_over_can_do_nothing_but_its_work(
    hostile: Callable[[str], Hostile],
) -> None:
    """It tries from a thread: what holds for the first holds for all."""
    answer = hostile("try").answer()
    found = answer["found"]
    assert found.pop("needed") == "allowed"
    assert found.pop("too much memory") == "MemoryError"
    assert found.pop("raw clone3") == "ENOSYS"  # glibc takes clone then
    assert {"open", "fork", "spawn", "socket", "raw execve", "raw ptrace", "raw setns"} < set(found)
    assert {name: became for name, became in found.items() if became != "EPERM"} == {}


def test_what_holds_is_said_in_the_order_in_which_it_was_done(hostile: Callable[[str], Hostile]) -> None:
    tested, user, capabilities, memory, files, calls = hostile("try").answer()["notes"]
    assert tested == "the self-test ran with allowed"  # before all others
    assert user.startswith("user ")
    assert capabilities == "no capabilities, no new privileges"
    assert memory == "at most 1024 MiB of memory"
    assert files == f"no files (Landlock {landlock.abi()})" or "lacks" in files
    assert re.fullmatch(r"\d+ system calls, for all threads", calls)


def statuses(pid: int) -> Iterator[dict[str, str]]:
    """Of each thread; one that ends meanwhile is left out."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = (task / "status").read_text().splitlines()
            yield {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def test_every_thread_is_filtered_and_without_capabilities(hostile: Callable[[str], Hostile]) -> None:
    forwarder = hostile("try")
    forwarder.answer()
    seen = list(statuses(forwarder.process.pid))
    assert len(seen) > 1
    for status in seen:
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
        assert {status[name] for name in CAPABILITY_SETS} == {NO_CAPABILITIES}


def test_limits_are_there_for_files_memory_and_cores(hostile: Callable[[str], Hostile]) -> None:
    forwarder = hostile("try")
    forwarder.answer()
    limits = Path(f"/proc/{forwarder.process.pid}/limits").read_text()
    for name, value in (("core file", 0), ("data", sandbox.MEMORY_BYTES), ("file", sandbox.LOG_BYTES)):
        assert re.search(rf"^Max {name} size +{value} +{value} ", limits, re.MULTILINE), limits


def test_a_fault_in_python_is_reported_although_no_file_can_be_opened(
    hostile: Callable[[str], Hostile],
) -> None:
    forwarder = hostile("raise")
    assert "RuntimeError: a fault in the engine" in forwarder.last_words()
    assert forwarder.process.returncode == 1


def test_a_crash_is_reported_by_function_and_leaves_no_core(hostile: Callable[[str], Hostile]) -> None:
    """Its memory holds keys."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        forwarder = hostile("crash")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert forwarder.process.stderr is not None
    words = forwarder.process.stderr.read().decode()
    _, status = os.waitpid(forwarder.process.pid, 0)
    forwarder.process.returncode = os.waitstatus_to_exitcode(status)
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)
    assert list(forwarder.directory.iterdir()) == []
    assert "hostile_engine.py" in words
    assert "in run" in words


def test_a_thread_that_was_there_before_is_refused_in_words(hostile: Callable[[str], Hostile]) -> None:
    """It would have kept its capabilities and its files."""
    forwarder = hostile("thread")
    assert "2 threads run before the sandbox" in forwarder.last_words()
    assert forwarder.process.returncode == 1


def test_where_libseccomp_is_missing_the_rest_holds_and_that_is_said() -> None:
    code = (
        "import sys, json; sys.modules['pyseccomp'] = None\n"
        "from tulle.worker import sandbox\n"
        "print(json.dumps(sandbox.lock_down()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stderr
    *others, calls = json.loads(done.stdout)
    assert "no capabilities, no new privileges" in others
    assert calls.startswith("system calls: not filtered")


def test_a_lower_limit_of_the_administrators_stays(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import resource; from tulle.worker import sandbox\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20))\n"
        "print(sandbox.limit_memory(1 << 30), resource.getrlimit(resource.RLIMIT_DATA)[1] >> 20)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=WAIT_S)
    assert capfd.readouterr().out == "at most 300 MiB of memory 300\n"
