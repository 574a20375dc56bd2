"""What does one call of each hot function cost? Runs the files beside this one with pytest-benchmark.

They can be run by themselves too, with all that pytest-benchmark offers (comparing with a saved run, for one):

    python -m pytest -p no:randomly benchmarks/micro/bench_*.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import Effort, Figure, Result

QUESTION = "What does one call of each hot function cost?"

HERE = Path(__file__).parent
OPTIONS = (
    "-q",
    "-p",
    "no:randomly",
    "-p",
    "no:cacheprovider",
    "--benchmark-disable-gc",
    "--benchmark-warmup=off",
)
QUICK = ("--benchmark-max-time=0.002", "--benchmark-min-rounds=2", "--benchmark-min-time=0.00001")
FULL = ("--benchmark-max-time=0.5", "--benchmark-min-rounds=20")
LONGEST_S = 600.0


def measure(effort: Effort) -> Result:
    """Raises RuntimeError where a micro-benchmark fails."""
    with tempfile.TemporaryDirectory(prefix="tulle-bench-") as directory:
        report = Path(directory, "report.json")
        files = sorted(map(str, HERE.glob("bench_*.py")))
        command = [sys.executable, "-m", "pytest", *OPTIONS, *(QUICK if effort.quick else FULL)]
        done = subprocess.run(
            [*command, f"--benchmark-json={report}", *files],
            cwd=HERE.parents[1],
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            env=environment(),
        )
        if done.returncode:
            raise RuntimeError(f"micro-benchmarks failed:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
        found = json.loads(report.read_text())["benchmarks"]
    return Result([figure(one) for one in found], {"functions": len(found)})


def environment() -> dict[str, str]:
    """Ours without what tells pytest that it is one of several: then pytest-benchmark would measure nothing."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def figure(found: dict[str, Any]) -> Figure:
    """One function: pytest-benchmark's own median and quartiles, in nanoseconds for each of the things that it works
    on (`extra_info["each"]`, of which one call has `extra_info["count"]`)."""
    extra, stats = found["extra_info"], found["stats"]
    each, count = extra.get("each", "call"), extra.get("count", 1)
    values = [stats[name] * 1e9 / count for name in ("median", "q1", "q3")]
    name = found["name"].removeprefix("test_").replace("_", " ")
    return Figure(name, f"ns a {each}", "lower", {"median, quartiles": values})
