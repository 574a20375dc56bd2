"""What is wrong with a configuration, as data: each problem names the key, the value and what would be right.

All problems of one configuration are collected and raised together, so that nobody has to try ten times.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

HIDDEN = "(hidden)"
"""Stands where a secret would."""

_SHOWN_LIMIT = 60  # characters of a value in a message


class ConfigProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong. `str()` gives "<key>: <value> <wrong>; give <expected>"."""

    key: str
    """As the user writes it: "Backend.Port", "--iface", "TULLED_IFACE"."""
    value: str | None
    """What is there, as text (`shown`); None where nothing is, or where it adds nothing."""
    expected: str
    """What would be right, to be read after "give": "an IPv4 network such as 10.5.0.0/16". "" where `wrong` says it."""
    wrong: str
    """What is wrong, to be read after the value: "is not an IPv4 network"."""

    def __str__(self) -> str:
        subject = self.wrong if self.value is None else f"{self.value} {self.wrong}"
        return f"{self.key}: {subject}; give {self.expected}" if self.expected else f"{self.key}: {subject}"


class ConfigError(Exception):
    """A configuration that cannot be used, with all of its problems."""

    def __init__(self, problems: Sequence[ConfigProblem], what: str = "the configuration") -> None:
        super().__init__(problems, what)
        self.problems = tuple(problems)
        self.what = what
        """What was read, for people: "the network config"."""

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n".join((f"{count} in {self.what}:", *(f"  {problem}" for problem in self.problems)))


def shown(value: Any) -> str:
    """A value as JSON, cut short: printable on any terminal, one line, whatever it holds."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = ascii(value)
    return text if len(text) <= _SHOWN_LIMIT else text[: _SHOWN_LIMIT - 3] + "..."


def printable(key: str) -> str:
    """A key as it is where that is short plain text, else as `shown`."""
    return key if key.isascii() and key.isprintable() and len(key) <= _SHOWN_LIMIT else shown(key)


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant, without regard to case."""
    from difflib import get_close_matches  # only where something is wrong: `--help` is to be quick

    by_folded = {name.lower(): name for name in known}
    close = get_close_matches(word.lower()[:_SHOWN_LIMIT], by_folded, n=1)
    return by_folded[close[0]] if close else None
