"""JSON text written by people into plain objects, strictly: where two keys mean the same thing, it is a
problem.

Go reads keys without regard to case and lets the last one win, so `{"Network": A, "network": B}` would mean
one thing to one reader and another to the next.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, NoReturn

from tulle.config.errors import ConfigError, ConfigProblem, printable, shown


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands in the text, before keys are merged."""


def read_object(text: bytes | str, what: str, example: str) -> tuple[dict[str, Any], list[ConfigProblem]]:
    """The object that the text holds, and a problem for each key that an object has twice (at the top and one
    level below also where the two differ in case). Raises ConfigError where it is not JSON or no object."""
    try:
        raw = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            object_pairs_hook=_Pairs,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        problems: list[ConfigProblem] = []
        plain = _plain(raw, "", 0, problems)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            [ConfigProblem(what, None, example, f"is not JSON ({_reason(error)})")], what
        ) from None
    if not isinstance(raw, _Pairs):
        raise ConfigError([ConfigProblem(what, shown(plain), example, "is not a JSON object")], what)
    return plain, problems


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _finite(word: str) -> float:
    number = float(word)
    if not isfinite(number):
        raise ValueError(f"{word[:20]} is too large a number")
    return number


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return str(error)


def _plain(node: Any, path: str, depth: int, problems: list[ConfigProblem]) -> Any:
    """The node with dicts for objects."""
    if isinstance(node, _Pairs):
        return _merged(node, path, depth, problems)
    if isinstance(node, list):
        return [_plain(item, f"{path}[{at}]", depth + 1, problems) for at, item in enumerate(node)]
    return node


def _merged(pairs: _Pairs, path: str, depth: int, problems: list[ConfigProblem]) -> dict[str, Any]:
    # Deeper down the keys may be anything, names included, where case can matter: there only equal ones clash.
    fold = str.lower if depth < 2 else str
    seen: dict[str, str] = {}
    found: dict[str, Any] = {}
    for key, value in pairs:
        here = f"{path}.{key}" if path else key
        earlier = seen.setdefault(fold(key), key)
        if key in found or earlier != key:
            wrong = f"stands there twice, as {shown(earlier)} and as {shown(key)}"
            problems.append(ConfigProblem(printable(here), None, "it once", wrong))
        found[key] = _plain(value, here, depth + 1, problems)
    return found
