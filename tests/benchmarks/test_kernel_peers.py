"""The benchmarks of what the kernel carries, in their quick form: they end, and what they counted is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 110


def quick(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "-o", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["benchmarks"][name]
    return found


@pytest.mark.lab
def test_every_peer_has_its_route_after_all_that_was_taken_away() -> None:
    found = quick("kernel_peers")
    assert found["counts"] == {"vxlan: routes": 310, "host-gw: routes": 310}
    for figure in found["figures"]:
        assert set(figure["subjects"]) == {"vxlan", "host-gw"}


@pytest.mark.lab
def test_wires_compares_three_ways_in_one_run() -> None:
    found = quick("wires")
    ways = {"kernel VXLAN by hand", "vxlan, kernel", "vxlan, python engine"}
    by_name = {figure["name"]: set(figure["subjects"]) for figure in found["figures"]}
    assert by_name["TCP, 1 stream"] == by_name["RTT p50"] == ways
    for way in ways:
        assert found["counts"][f"{way}: TCP bytes sent"] >= 2 * (16 << 20)
        assert found["counts"][f"{way}: round trips"] == 100
