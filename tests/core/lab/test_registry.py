"""Which labs there are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.lab.errors import LabError
from tulle.lab.registry import Process, Registry, default_directory, start_time


def of(pid: int) -> Process:
    start = start_time(pid)
    assert start is not None
    return Process(pid, start)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for a lab's init."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_lab_is_found_until_it_is_removed_and_the_directory_goes_with_the_last(registry: Registry) -> None:
    us = of(os.getpid())
    registry.add("one", us)
    assert registry.living() == {"one": us}
    assert registry.find("one") == us
    assert registry.directory.stat().st_mode & 0o777 == 0o700
    registry.remove("one", us)
    assert registry.living() == {}
    assert not registry.directory.exists()


def test_a_lab_that_was_killed_is_forgotten_by_whoever_looks(
    registry: Registry, sleeper: subprocess.Popen[bytes]
) -> None:
    registry.add("killed", of(sleeper.pid))
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    assert registry.living() == {}
    assert not registry.directory.exists()


def test_another_process_with_the_same_pid_is_not_the_lab(registry: Registry) -> None:
    us = of(os.getpid())
    registry.add("old", Process(us.pid, us.start - 1))
    with pytest.raises(LabError, match="No lab 'old' runs"):
        registry.find("old")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "start": 1}', '{"pid": 1}'])
def test_a_damaged_entry_is_removed(registry: Registry, text: str) -> None:
    registry.directory.mkdir(mode=0o700)
    (registry.directory / "bad.json").write_text(text)
    assert registry.living() == {}
    assert not registry.directory.exists()


def test_a_name_in_use_is_refused_with_what_to_do(registry: Registry) -> None:
    registry.add("one", of(os.getpid()))
    with pytest.raises(LabError, match="tulle lab down --name one"):
        registry.add("one", of(os.getpid()))


def test_an_unknown_name_is_answered_with_those_that_run(registry: Registry) -> None:
    registry.add("one", of(os.getpid()))
    with pytest.raises(LabError, match=r"No lab .two. runs\. These run: one"):
        registry.find("two")


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "..", "a" * 32, "a\n"])
def test_what_cannot_be_a_file_name_everywhere_cannot_be_a_labs_name(registry: Registry, name: str) -> None:
    with pytest.raises(LabError, match="cannot be a lab's name"):
        registry.add(name, of(os.getpid()))
    assert not registry.directory.exists()


def test_removing_an_older_lab_leaves_a_newer_one_of_the_same_name(
    registry: Registry, sleeper: subprocess.Popen[bytes]
) -> None:
    registry.add("one", of(sleeper.pid))
    registry.remove("one", of(os.getpid()))
    assert registry.find("one") == of(sleeper.pid)


def test_a_directory_that_others_can_write_is_not_believed(registry: Registry) -> None:
    registry.directory.mkdir()
    registry.directory.chmod(0o777)
    with pytest.raises(LabError, match="open to others"):
        registry.living()


def test_a_link_in_the_directorys_place_is_not_followed(registry: Registry, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    registry.directory.symlink_to(target)
    with pytest.raises(LabError, match="not a directory that can be read"):
        registry.add("one", of(os.getpid()))


def test_of_many_who_take_one_name_at_once_one_gets_it(registry: Registry) -> None:
    got: list[str] = []

    def take() -> None:
        try:
            registry.add("one", of(os.getpid()))
        except LabError:
            got.append("refused")
        else:
            got.append("taken")

    together(take, 8)
    assert sorted(got) == ["refused"] * 7 + ["taken"]


def test_no_entry_is_lost_while_others_come_and_go(registry: Registry) -> None:
    us = of(os.getpid())
    missed: list[str] = []

    def churn() -> None:
        name = f"lab{threading.get_ident()}"
        for _ in range(30):
            registry.add(name, us)
            if name not in registry.living():
                missed.append(name)
            registry.remove(name, us)

    together(churn, 4)
    assert missed == []
    assert not registry.directory.exists()


def together(work: object, count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_the_directory_is_the_users_own_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_directory() == tmp_path / "tulle-lab"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert default_directory() == Path(f"/tmp/tulle-lab-{os.geteuid()}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another user's")
def test_another_users_runtime_directory_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(tmp_path, 65534, 65534)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_directory() == Path("/tmp/tulle-lab-0")


def test_a_process_name_with_brackets_does_not_confuse_the_start_time() -> None:
    code = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'a) Z 1 (b'); print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert of(process.pid).start >= of(os.getpid()).start
    finally:
        process.kill()
        process.communicate()
