"""Flag values as Go programs write them: strconv.ParseBool, strconv.ParseInt with base 0, time.ParseDuration, regexp.

Each `parse_` function takes any text and gives the value, or None where Go would refuse it.
"""

from __future__ import annotations

import re
import warnings

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})

_LONGEST = 100  # characters; longer numbers and durations do not fit into Go's 64 bits
_INT = re.compile(
    r"([+-]?)(0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|0(?:_?[0-7])*|[1-9](?:_?[0-9])*)",
    re.ASCII,
)
_INT_LIMIT = 1 << 63

_PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"([+-]?)((?:{_PART})+)", re.ASCII)
_DURATION_PART = re.compile(_PART, re.ASCII)
_DURATION_LIMIT_S = (1 << 63) / 1e9  # Go counts nanoseconds in 64 bits
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_bool(text: str) -> bool | None:
    """One of the twelve words that Go takes."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else None


def parse_int(text: str) -> int | None:
    """A number of 64 bits: decimal, 0x1f, 0o17, 017 (octal too) or 0b11; "_" may stand between digits."""
    match = _INT.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    digits = match[2].replace("_", "")
    number = int(digits, 8) if digits.isdecimal() and digits[0] == "0" else int(digits, 0)
    if match[1] == "-":
        number = -number
    return number if -_INT_LIMIT <= number < _INT_LIMIT else None


def parse_duration(text: str) -> float | None:
    """Seconds: "90s", "1h30m", "-1.5h", "0"."""
    if text in {"0", "+0", "-0"}:
        return 0.0
    match = _DURATION.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    seconds = sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(match[2]))
    if seconds >= _DURATION_LIMIT_S:
        return None
    return -seconds if match[1] == "-" else seconds


_GO_CLASSES = {
    "[:alnum:]": "0-9A-Za-z",
    "[:alpha:]": "A-Za-z",
    "[:digit:]": "0-9",
    "[:lower:]": "a-z",
    "[:upper:]": "A-Z",
    "[:word:]": "0-9A-Za-z_",
    "[:xdigit:]": "0-9A-Fa-f",
}
"""Names of characters within brackets that Go knows and Python does not."""


def compile_regexp(text: str) -> re.Pattern[str]:
    """A regular expression in Go's syntax, as far as interface names and addresses need it. Raises ValueError whose
    text says what is wrong and where."""
    python = text.replace(r"\z", r"\Z")
    for go, characters in _GO_CLASSES.items():
        python = python.replace(go, characters)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # "[[" is a plain bracket in Go, now and in future
            return re.compile(python, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
