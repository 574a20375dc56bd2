"""Several data planes on one node: each has its device, its forwarder and its files, and nobody takes the other's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab

SCRIPT = Path(__file__).with_name("two_planes.py")


def test_two_planes_of_one_tulled_live_side_by_side(short_dir: Path) -> None:
    unshare = ["unshare", "--net", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs a network namespace")
    run_dir = short_dir / "run"
    run_dir.mkdir(mode=0o755)
    short_dir.chmod(0o755)
    done = subprocess.run(
        [*unshare, sys.executable, "-W", "error", str(SCRIPT), str(run_dir)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    first, killed, after = seen["first"], seen["killed"], seen["after"]
    assert first[""] != first["v6"]
    assert seen["links"] == ["one", "two"]
    assert {"forwarder.sock", "forwarder-v6.sock", "forwarder-v6.log"} <= set(seen["files"])
    assert seen["adopted"] == first
    assert killed[""] == first[""]
    assert seen["replaced"] == [killed["v6"], after["v6"]]
    assert after[""] == first[""]
    assert seen["by-pid"] == {str(after[""]): "", str(after["v6"]): "v6"}
    assert seen["unneeded"] == [f"forwarder {after['v6']}: stopped"]
    assert seen["left"] == [[""], ["one"]]
    assert seen["at-the-end"] == []
    assert {"forwarder.sock", "forwarder-v6.sock", "forwarder.log", "forwarder-v6.log"} <= set(
        seen["cleared"]
    )
    assert not run_dir.exists()
