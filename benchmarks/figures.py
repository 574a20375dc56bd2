"""What a benchmark gives back: values by turn of the things that are compared, and what follows from them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Effort:
    """How much a benchmark is to do."""

    quick: bool = False
    """One turn of a second or so: shows that it works, not how fast."""
    rounds: int = 5

    @property
    def turns(self) -> int:
        return 1 if self.quick else self.rounds

    def of(self, full: int, quick: int) -> int:
        """An amount of work in each of the two forms."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Aim:
    """What the project wants of one subject, on a quiet machine of two cores. Judged by the median."""

    subject: str
    limit: float


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, of several subjects in turns."""

    name: str
    unit: str
    better: Better
    values: Mapping[str, Sequence[float]]
    """Subject -> one value a turn; as many of each."""
    baseline: str | None = None
    """The subject that the others are divided by."""
    aims: Sequence[Aim] = ()

    def median(self, subject: str) -> float:
        return statistics.median(self.values[subject])

    def ratio(self, subject: str) -> float | None:
        """The median of the ratios to the baseline, turn by turn: what slows a whole turn cancels out. None without a
        baseline, and where that was 0 in each turn."""
        if self.baseline is None:
            return None
        pairs = zip(self.values[subject], self.values[self.baseline], strict=True)
        ratios = [value / base for value, base in pairs if base]
        return statistics.median(ratios) if ratios else None

    def met(self, aim: Aim) -> bool:
        found = self.median(aim.subject)
        return found >= aim.limit if self.better == "higher" else found <= aim.limit

    def data(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "unit": self.unit,
            "better": self.better,
            "baseline": self.baseline,
            "subjects": {
                subject: {
                    "median": self.median(subject),
                    "lowest": min(values),
                    "highest": max(values),
                    "ratio": self.ratio(subject),
                    "rounds": list(values),
                }
                for subject, values in self.values.items()
            },
            "aims": [{"subject": aim.subject, "limit": aim.limit, "met": self.met(aim)} for aim in self.aims],
        }


@dataclass
class Turns:
    """Collects values as they are measured: `turns.add("RTT", "kernel routes", 14.2)`."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, figure: str, subject: str, value: float) -> None:
        self.values.setdefault(figure, {}).setdefault(subject, []).append(value)

    def figure(
        self,
        name: str,
        unit: str,
        better: Better,
        *,
        baseline: str | None = None,
        aims: Sequence[Aim] = (),
    ) -> Figure:
        """Raises KeyError where nothing of that name was added."""
        return Figure(name, unit, better, self.values[name], baseline, aims)


@dataclass(frozen=True)
class Result:
    """All of one benchmark."""

    figures: Sequence[Figure]
    counts: Mapping[str, int] = field(default_factory=dict)
    """What was moved, found or applied, by subject: what a test can hold against what was asked for."""
    notes: Sequence[str] = ()
    """What a reader of the figures must know."""


def table(figure: Figure) -> list[str]:
    """A figure as lines of text."""
    width = max(len(subject) for subject in figure.values)
    arrow = "more is better" if figure.better == "higher" else "less is better"
    lines = [f"{figure.name} ({figure.unit}, {arrow})"]
    for subject, values in figure.values.items():
        ratio = figure.ratio(subject)
        shown = "        " if ratio is None else f"{ratio:7.3g}x"
        spread = f"{short(min(values))} .. {short(max(values))}"
        lines.append(f"  {subject:<{width}}  {shown}  {short(figure.median(subject)):>8}   ({spread})")
    for aim in figure.aims:
        sign = ">=" if figure.better == "higher" else "<="
        verdict = "met" if figure.met(aim) else "MISSED"
        lines.append(f"  aim: {aim.subject} {sign} {short(aim.limit)} {figure.unit}: {verdict}")
    return lines


def short(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
