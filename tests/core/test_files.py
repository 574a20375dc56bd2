"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tulle.files import write_atomically


def test_a_file_is_made_with_its_mode_and_its_directories(tmp_path: Path) -> None:
    file = tmp_path / "a/b/file"
    old = os.umask(0o077)
    try:
        write_atomically(file, b"text", mode=0o644)
    finally:
        os.umask(old)
    assert file.read_bytes() == b"text"
    assert file.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in file.parent.iterdir()] == ["file"]


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old and longer")
    with file.open("rb") as reader:
        write_atomically(file, b"new", mode=0o600)
        assert reader.read() == b"old and longer"  # who has it open reads on in what was
    assert file.read_bytes() == b"new"


def test_what_an_earlier_crash_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "file.new").write_bytes(b"half of something longer than the new text")
    write_atomically(tmp_path / "file", b"new", mode=0o600)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file.new").exists()


def test_where_it_cannot_be_replaced_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "file", b"new", mode=0o600)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_directory_that_is_a_file_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file/below", b"new", mode=0o600)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tulle.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    write_atomically(Path(sys.argv[1]), bytes(3000), mode=0o600)
except OSError as error:
    print(error.strerror)
"""


def test_a_disk_that_runs_full_leaves_the_old_text(tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: both take a part and refuse the rest."""
    file = tmp_path / "file"
    file.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(file)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "File too large\n"
    assert file.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
