"""The command line: which benchmarks, how long, as text or JSON. Figures go to standard output, progress to standard
error; an aim that is missed is said and is no failure, since a busy machine misses them all."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.figures import Effort, Result, table
from benchmarks.machine import machine, versions

NAMES = (
    "dataplane",
    "wires",
    "encrypted",
    "wireguard_peers",
    "engine",
    "leases",
    "peers",
    "control",
    "kernel_peers",
    "lookup",
    "start",
    "handover",
    "micro",
)
DEFAULT_ROUNDS = 5


def main(argv: Sequence[str] | None = None) -> int:
    given = parse(argv)
    effort = Effort(given.quick, given.rounds)
    about: dict[str, Any] = {"machine": machine(), "versions": versions(), "quick": given.quick}
    if given.output == "text":
        for name, facts in (("machine", about["machine"]), ("versions", about["versions"])):
            print(f"{name}: " + "; ".join(f"{key} {value}" for key, value in facts.items()))
    results = {}
    for name in given.names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"{name}: {module.QUESTION}", file=sys.stderr, flush=True)
        result: Result = module.measure(effort)
        if given.output == "text":
            show(name, module.QUESTION, result)
        results[name] = {
            "question": module.QUESTION,
            "figures": [figure.data() for figure in result.figures],
            "counts": dict(result.counts),
            "notes": list(result.notes),
        }
    if given.output == "json":
        print(json.dumps({**about, "benchmarks": results}, indent=1))
    return 0


def show(name: str, question: str, result: Result) -> None:
    print(f"\n== {name}: {question}")
    for figure in result.figures:
        print("\n".join(table(figure)))
    for note in result.notes:
        print(f"note: {note}")
    sys.stdout.flush()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="tulle's benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all without one")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument("--quick", action="store_true", help="shows that they work, not how fast")
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS, help="turns that each subject gets")
    given = parser.parse_args(argv)
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; these are: {', '.join(NAMES)}")
    if given.rounds < 1:
        parser.error(f"--rounds {given.rounds}: give at least 1")
    return given


if __name__ == "__main__":
    sys.exit(main())
