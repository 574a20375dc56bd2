"""A tulled without its rights says at once which they are, and ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tulle.config.daemon import DaemonConfig
from tulle.node.rights import what_is_lacking
from tulle.node.settings import gather
from tulle.plugins import load_plugins

ALL = "Name:\ttulled\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n"
NONE = ALL.replace("1ffffffffff", "00000000000")
ONLY_NET_ADMIN = ALL.replace("1ffffffffff", "00000001000")

needs_root = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can give its rights up"
)


def config(directory: Path, *words: str) -> DaemonConfig:
    places = [f"--run-dir={directory}/run", f"--state-dir={directory}/state", "--node-name=n1"]
    found = gather(load_plugins(), [*places, *words], {}, "").config
    assert found is not None
    return found


def status(directory: Path, text: str) -> Path:
    file = directory / "status"
    file.write_text(text)
    return file


@pytest.mark.parametrize("text", [ALL, ONLY_NET_ADMIN, "Name:\ttulled\n"])
def test_nothing_is_said_where_nothing_is_lacking(tmp_path: Path, text: str) -> None:
    assert what_is_lacking(config(tmp_path), status(tmp_path, text)) == ""
    assert what_is_lacking(config(tmp_path), tmp_path / "not there") == ""


def test_the_capability_is_named_with_what_to_do(tmp_path: Path) -> None:
    said = what_is_lacking(config(tmp_path), status(tmp_path, NONE))
    assert "CAP_NET_ADMIN" in said
    assert "start it as root (sudo tulled ...)" in said


def test_a_directory_that_cannot_be_made_is_named_with_its_flag(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    (tmp_path / "run").chmod(0o644)
    said = what_is_lacking(config(tmp_path, f"--run-dir={tmp_path}/run/below"), status(tmp_path, ALL))
    assert f"cannot write to {tmp_path}/run/below (--run-dir)" in said
    assert "--state-dir" not in said


@needs_root
def test_tulled_as_another_user_ends_at_once_and_names_everything(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    places = [f"--run-dir={tmp_path}/run", f"--state-dir={tmp_path}/state"]
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m", "tulle.node.main", *places],
        env={"PATH": os.environ["PATH"], "HOME": "/"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if "No module named" in done.stderr or "PermissionError" in done.stderr.partition("tulled")[0]:
        pytest.skip("another user cannot read this Python or this checkout")
    assert done.returncode == 1, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "cannot-go-on" in line]
    for word in ("CAP_NET_ADMIN", f"{tmp_path}/run (--run-dir)", f"{tmp_path}/state (--state-dir)", "root"):
        assert word in said
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_root
def test_root_without_the_capability_is_told_so(tmp_path: Path) -> None:
    places = [f"--run-dir={tmp_path}/run", f"--state-dir={tmp_path}/state"]
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_admin", sys.executable, "-m", "tulle.node.main", *places],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1, done.stderr
    assert "CAP_NET_ADMIN" in done.stderr
    assert "cannot write" not in done.stderr
    assert list(tmp_path.iterdir()) == []
