"""How files look: short, with a first line that says what they are for, and with a test where they say so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

LONG_LINES = 450
"""About 400 lines are where to look again; this is where the looking has not helped."""
LONG_FUNCTION_LINES = 60

SUBJECTS = {
    "tests/core/lease/test_flannel_defects.py": "eleven known defects, in whichever file each would sit",
    "tests/core/node/test_events.py": "the names of all log lines, in the code and in docs/operators.md",
    "tests/plugins/tulle_etcd/test_witness.py": "another client's view of what we write",
    "tests/plugins/tulle_sqlite/test_processes.py": "several processes on one file",
}
"""Tests that are about a subject and not about one file."""


def test_no_file_is_long(sources: list[Path], checkout: Path) -> None:
    lengths = {str(path.relative_to(checkout)): len(path.read_text().splitlines()) for path in sources}
    assert {name: lines for name, lines in lengths.items() if lines > LONG_LINES} == {}


def test_no_function_is_long(sources: list[Path], checkout: Path) -> None:
    long = {}
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                if lines > LONG_FUNCTION_LINES:
                    long[f"{path.relative_to(checkout)}:{node.name}"] = lines
    assert long == {}


def test_every_file_says_what_it_is_for(sources: list[Path], checkout: Path) -> None:
    silent = [
        str(path.relative_to(checkout))
        for path in sources
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_every_test_lies_where_its_subject_does(checkout: Path) -> None:
    """tests/core/x/test_y_more.py is about core/tulle/x/y.py; test_init.py is about the package itself."""
    lost = []
    for room, source in (("core", "core/tulle"), ("plugins", "plugins")):
        for test in sorted((checkout / "tests" / room).rglob("test_*.py")):
            place = str(test.relative_to(checkout))
            folder = checkout / source / test.parent.relative_to(checkout / "tests" / room)
            names = [*(file.stem for file in folder.glob("*.py")), "init"]
            about = test.stem.removeprefix("test_")
            if place not in SUBJECTS and not any(f"{about}_".startswith(f"{name}_") for name in names):
                lost.append(place)
    assert lost == []


def test_a_workplace_is_not_written_into_the_project(checkout: Path, sources: list[Path]) -> None:
    """Files hold no path of the machine that they were written on."""
    texts = [*sources, *checkout.glob("*.*"), *checkout.glob("docs/**/*.md"), checkout / "Makefile"]
    home = re.compile(r"/(home|Users)/\w+|" + re.escape(str(checkout)) + r"\b")
    marked = [
        str(path.relative_to(checkout))
        for path in texts
        if path.is_file() and home.search(path.read_text(errors="replace"))
    ]
    assert marked == []
