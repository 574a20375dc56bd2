"""The benchmark of many WireGuard peers in its quick form: every peer that was asked for got a session. No test here
looks at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 110
PEERS = 20


@pytest.mark.lab
@pytest.mark.skipif(
    not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="/dev/net/tun cannot be opened here"
)
def test_all_peers_that_were_set_have_sessions_with_each_program() -> None:
    command = [sys.executable, "-m", "benchmarks", "wireguard_peers", "--quick", "-o", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["benchmarks"]["wireguard_peers"]
    programs = ["tulle-wg", *(["wireguard-go"] if shutil.which("wireguard-go") else [])]
    assert found["counts"] == {f"{one}: sessions": PEERS for one in programs}
    for figure in found["figures"]:
        assert list(figure["subjects"]) == programs
        assert all(one["median"] > 0 for one in figure["subjects"].values())
