"""A small disk in a mount namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.testing.faults.apart import HERE, Apart, NoNamespaces
from tulle.testing.faults.disk import Disk, small_disk


@pytest.fixture
def apart() -> Iterator[Apart]:
    try:
        with Apart() as made:
            yield made
    except NoNamespaces as reason:
        pytest.skip(str(reason))


@pytest.fixture
def disk(apart: Apart, tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "kept").write_text("before")
    with small_disk(apart, HERE, tmp_path, 64 << 10) as made:
        yield made


def write(apart: Apart, disk: Disk, kilobytes: int) -> str:
    """What the program that writes says; empty where it worked."""
    command = [
        "dd",
        "if=/dev/zero",
        f"of={disk.directory}/new",
        "bs=1024",
        f"count={kilobytes}",
        "status=none",
    ]
    return apart.run(HERE, command, check=False).stderr


def test_what_was_there_is_there_and_what_is_written_is_nowhere_else(
    apart: Apart, disk: Disk, tmp_path: Path
) -> None:
    assert apart.run(HERE, ["cat", f"{tmp_path}/kept"]).stdout == "before"
    assert write(apart, disk, 1) == ""
    assert not (tmp_path / "new").exists()


def test_a_full_disk_takes_nothing_until_it_is_freed(apart: Apart, disk: Disk) -> None:
    disk.fill()
    assert "No space left on device" in write(apart, disk, 1)
    disk.free()
    assert write(apart, disk, 16) == ""
    assert "No space left on device" in write(apart, disk, 1000)


def test_a_read_only_disk_takes_nothing_until_it_is_writable(apart: Apart, disk: Disk) -> None:
    disk.read_only()
    assert "Read-only file system" in write(apart, disk, 1)
    disk.writable()
    assert write(apart, disk, 1) == ""


def test_afterwards_the_directory_is_as_before_and_errors_are_told(apart: Apart, tmp_path: Path) -> None:
    with small_disk(apart, HERE, tmp_path, 64 << 10) as disk:
        write(apart, disk, 1)
    assert apart.run(HERE, ["ls", str(tmp_path)]).stdout == ""
    with pytest.raises(RuntimeError, match="ended with status 1"):
        apart.run(HERE, ["false"])
    with pytest.raises(ValueError, match="the only place here"):
        apart.run("n1", ["true"])
