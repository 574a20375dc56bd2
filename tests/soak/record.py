"""What a soak test has seen: printed at its end, whatever came of it."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple


class Step(NamedTuple):
    """Some faults at once, and how the cluster stood it."""

    number: int
    faults: tuple[str, ...]
    """ "KIND on NODE", each."""
    back_s: float
    """Until all pods heard each other again after the cause was gone."""
    silent_s: float
    """The longest that two pods did not hear each other, in the whole step."""
    settled_s: float
    """Until nothing was left to complain of."""
    violations: tuple[str, ...]


class Record:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.steps: list[Step] = []

    @property
    def violations(self) -> list[str]:
        return [
            f"step {step.number} ({', '.join(step.faults)}): {one}"
            for step in self.steps
            for one in step.violations
        ]

    def text(self, seconds: float, more: dict[str, object]) -> str:
        """For people. A fault that came together with others has their times, too."""
        by_kind: dict[str, list[Step]] = defaultdict(list)
        for step in self.steps:
            for one in step.faults:
                by_kind[one.partition(" on ")[0]].append(step)
        lines = [
            f"soak: seed {self.seed}, {seconds:.0f} s, {len(self.steps)} steps, "
            f"{sum(map(len, by_kind.values()))} faults, {len(self.violations)} violations",
            f"{'fault':24}{'times':>6}{'worst back':>12}{'silent':>9}{'settled':>9}",
        ]
        for kind, steps in sorted(by_kind.items()):
            worst = [
                max(getattr(step, name) for step in steps) for name in ("back_s", "silent_s", "settled_s")
            ]
            lines.append(f"{kind:24}{len(steps):6}{worst[0]:10.2f} s{worst[1]:7.1f} s{worst[2]:7.1f} s")
        lines += [f"{name}: {value}" for name, value in more.items()]
        return "\n".join([*lines, *(f"VIOLATION {one}" for one in self.violations)])
