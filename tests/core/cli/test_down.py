"""`tulle down` as a real process in a network namespace of its own: it would clear this machine else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tulle.node.rundir import Record

DOWN = f"{sys.executable} -m tulle.cli.main down"
UNSHARE = ["unshare", "--net", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]

pytestmark = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs a network namespace",
)


def in_namespace(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = f"--run-dir={directory / 'run'} --state-dir={directory / 'state'}"
    return subprocess.run(
        [*UNSHARE, "sh", "-ec", script.replace("DOWN", f"{DOWN} {words}")],
        capture_output=True,
        text=True,
        check=False,
    )


def record(directory: Path, subnet_text: str) -> None:
    (directory / "run").mkdir()
    (directory / "run/node.json").write_bytes(
        msgspec.json.encode(
            Record(
                node="n1",
                node_id="0" * 32,
                state_dir=str(directory / "state"),
                store="sqlite",
                store_prefix="/coreos.com/network",
                store_settings={"sqlite-file": str(directory / "state/store.sqlite")},
                subnet_file=str(directory / "subnet.env"),
                subnet_file_text=subnet_text,
            )
        )
    )


def test_where_there_is_nothing_it_says_so(tmp_path: Path) -> None:
    done = in_namespace("DOWN", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"there was nothing of tulle's here (run directory {tmp_path / 'run'})\n"
    assert list(tmp_path.iterdir()) == []


def test_what_is_ours_goes_and_what_is_others_stays(tmp_path: Path) -> None:
    record(tmp_path, "FLANNEL_MTU=1472\n")
    (tmp_path / "subnet.env").write_text("FLANNEL_MTU=1472\n")
    script = """
    ip link add tulle0 type veth peer name other0
    ip link set tulle0 alias tulle
    ip link add theirs0 type veth peer name theirs1
    ip link set theirs0 up
    ip route add unreachable 10.42.0.0/16 metric 1000000 proto 116
    ip route add unreachable 10.99.0.0/16 metric 7
    DOWN
    echo ---
    ip -o link; ip route
    DOWN
    """
    done = in_namespace(script, tmp_path)
    assert done.returncode == 0, done.stderr
    removed, _, left = done.stdout.partition("---\n")
    assert "tulle0" in removed
    assert "10.42.0.0/16" in removed
    assert f"{tmp_path / 'subnet.env'}: removed" in removed
    assert "tulle0" not in left
    assert "10.42.0.0/16" not in left
    assert "theirs0" in left
    assert "10.99.0.0/16" in left
    assert "there was nothing of tulle's here" in left
    assert list(tmp_path.iterdir()) == []


def test_a_subnet_file_that_another_wrote_since_stays(tmp_path: Path) -> None:
    record(tmp_path, "FLANNEL_MTU=1472\n")
    (tmp_path / "subnet.env").write_text("FLANNEL_MTU=1450\n")
    assert in_namespace("DOWN", tmp_path).returncode == 0
    assert (tmp_path / "subnet.env").read_text() == "FLANNEL_MTU=1450\n"


def test_releasing_where_there_is_no_lease_says_so(tmp_path: Path) -> None:
    record(tmp_path, "")
    done = in_namespace("DOWN --release", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lease of n1: there was none" in done.stdout
