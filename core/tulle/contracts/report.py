"""What whoever keeps something as it is wanted says of one pass: what was changed, and what does not work."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """Something that does not work now, for status and log: what, to whom, what to do."""

    code: str
    """Stable, kebab-case: "peer-unreachable"."""
    subject: str
    message: str


class Report(msgspec.Struct, frozen=True):
    """What one reconcile did."""

    changed: tuple[str, ...] = ()
    """One line for each thing that was put right or changed, for people."""
    problems: tuple[Problem, ...] = ()
