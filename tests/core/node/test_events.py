"""docs/operators.md has one line for each event that the code can log, with its level, and none that it cannot."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec

from tulle.lease.drift import Drift
from tulle.node.logs import HELD_BACK

ROOT = Path(__file__).parents[3]
SOURCES = ("core/tulle", "plugins")
DOCUMENT = ROOT / "docs" / "operators.md"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
ROW = re.compile(r"\| `([a-z0-9-]+)` \| (debug|info|warning|error) \|")

FORWARDS = {("core/tulle/store/retry.py", "RareLog")}
"""Hands on what it is given: the callers of its `warn` are looked at."""
MADE_UP = {"config-%s": {f"config-{kind}" for kind in get_args(get_type_hints(Drift)["kind"])}}
"""Events whose name is put together, and what it can be."""
OWN_PROGRAMS = (
    "core/tulle/lab",
    *(f"plugins/tulle_wireguard/{name}.py" for name in ("alone", "carrier", "standalone", "tunlink")),
)
"""No part of tulled."""


def parsed() -> Iterator[tuple[str, ast.Module]]:
    for root in SOURCES:
        for file in sorted((ROOT / root).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            if not name.startswith(OWN_PROGRAMS) and not name.endswith("_pb2.py"):
                yield name, ast.parse(file.read_text())


class Scope(msgspec.Struct, frozen=True):
    """A function, and the module that it stands in."""

    function: ast.FunctionDef | ast.AsyncFunctionDef
    module: ast.Module

    def values(self, name: str) -> list[ast.expr]:
        """What a name may stand for: what is assigned to it here, or what callers in this module pass."""
        found = [
            one.value
            for one in ast.walk(self.function)
            if isinstance(one, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in one.targets)
        ]
        parameters = [one.arg for one in self.function.args.args if one.arg != "self"]
        if name in parameters:
            found += [
                call.args[parameters.index(name)]
                for call in ast.walk(self.module)
                if isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr == self.function.name
            ]
        return found


def first_words(node: ast.expr, scope: Scope) -> set[str]:
    """With what the text may begin."""
    if isinstance(node, ast.Constant):
        return {str(node.value).split(maxsplit=1)[0].removesuffix(":")}
    if isinstance(node, ast.JoinedStr):
        return first_words(node.values[0], scope)
    if isinstance(node, ast.IfExp):
        return first_words(node.body, scope) | first_words(node.orelse, scope)
    if isinstance(node, ast.Name):
        values = scope.values(node.id)
        assert values, f"{node.id} in line {node.lineno}: where its event comes from is not to be seen"
        return set().union(*(first_words(value, scope) for value in values))
    raise AssertionError(f"line {node.lineno}: a log line has to begin with its event's name")


def events_of(call: ast.Call, scope: Scope) -> set[str]:
    """ "%s" at the beginning stands for the next argument."""
    text, *rest = call.args
    words = first_words(text, scope)
    if words == {"%s"}:
        return first_words(rest[0], scope)
    return set().union(*(MADE_UP.get(word, {word}) for word in words))


@cache
def logged() -> dict[str, set[str]]:
    """Each event with the levels at which it is logged."""
    found: dict[str, set[str]] = {HELD_BACK: {"warning"}}
    for name, module in parsed():
        functions = (
            one for one in ast.walk(module) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        scopes = [Scope(one, module) for one in functions]
        forwarding = {
            function
            for one in ast.walk(module)
            if isinstance(one, ast.ClassDef) and (name, one.name) in FORWARDS
            for function in one.body
        }
        for scope in scopes:
            for call in ast.walk(scope.function):
                if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                    continue
                level, owner = call.func.attr, ast.unparse(call.func.value).lower()
                if level == "warn" and "rare" in owner:
                    words, level = first_words(call.args[1], scope), "warning"
                elif level in LEVELS and "log" in owner and scope.function not in forwarding:
                    words = events_of(call, scope)
                else:
                    continue
                level = "error" if level in ("exception", "critical") else level
                for word in words:
                    assert EVENT.fullmatch(word), f"{name}:{call.lineno}: {word!r} is no event's name"
                    found.setdefault(word, set()).add(level)
    return found


def documented() -> list[tuple[str, str]]:
    _, _, log = DOCUMENT.read_text().partition("\n## Log\n")
    return ROW.findall(log)


def test_every_event_has_one_line_in_the_operators_guide_and_no_other_has() -> None:
    names = [name for name, _ in documented()]
    assert sorted(names) == sorted(logged())


def test_the_levels_are_those_of_the_code() -> None:
    assert {name: {level} for name, level in documented()} == logged()


def test_the_sources_were_really_read() -> None:
    """A search that finds nothing would agree with an empty page."""
    assert {"ready", "kernel-mended", "store-denied", "lease-refused", "worker-ended"} <= logged().keys()
