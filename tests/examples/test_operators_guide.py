"""docs/operators.md knows every event that the code logs and every reason to drop, and none that there is not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.config.core_options import CONFIG_FILE
from tulle.config.network import parse_network_config
from tulle.node.logs import HELD_BACK, MOST

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operators.md").read_text()
SOURCES = [
    path
    for folder in ("core/tulle", "plugins")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "_pb2" not in path.name and "testing" not in path.parts and "lab" not in path.parts
]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
ROW = re.compile(r"^\| `([a-z0-9-]+)` \| (debug|info|warning|error)\b", re.M)
DROP = re.compile(r"drop-[a-z-]*[a-z]")


def first_word(node: ast.expr) -> str:
    """Of a text or an f-string, without a colon; "" where it does not begin with a word of its own."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        return node.value.split()[0].removesuffix(":")
    return ""


def logs_something(call: ast.Call) -> bool:
    function = call.func
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr == "warn":  # `tulle.store.retry.RareLog`
        return len(call.args) > 1
    return function.attr in LEVELS and "log" in ast.unparse(function.value).lower()


def events_of(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(event, level) of what a module logs. Where a line begins with "%s", the event is one of the function's other
    texts."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if not isinstance(call, ast.Call) or not logs_something(call):
                continue
            assert isinstance(call.func, ast.Attribute)
            level = {"exception": "error", "warn": "warning"}.get(call.func.attr, call.func.attr)
            said = call.args[1] if call.func.attr == "warn" else call.args[0]
            if EVENT.fullmatch(word := first_word(said)):
                yield word, level
            else:
                yield from ((event, level) for event in chosen_in(function))


def chosen_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The texts of a choice between two events: `"kernel-mended" if mending else "kernel-set"`."""
    for choice in ast.walk(function):
        if isinstance(choice, ast.IfExp):
            for text in (first_word(choice.body), first_word(choice.orelse)):
                if "-" in text and EVENT.fullmatch(text):
                    yield text


def test_the_collector_finds_each_way_to_log() -> None:
    tree = ast.parse(
        "def f():\n"
        '    log.info("plain-event a=%s", 1)\n'
        '    self._logger.exception("with-colon: x")\n'
        '    rare.warn(log, f"rare-event: {x}")\n'
        '    log.info("%s %s", "one-way" if y else "other-way", z)\n'
        '    thing.info("no-log")\n'
    )
    assert dict(events_of(tree)) == {
        "plain-event": "info",
        "with-colon": "error",
        "rare-event": "warning",
        "one-way": "info",
        "other-way": "info",
    }


def test_every_event_in_the_code_stands_in_the_document_with_its_level_and_no_other() -> None:
    logged = {HELD_BACK: "warning"}
    for path in SOURCES:
        logged |= dict(events_of(ast.parse(path.read_text())))
    documented = dict(ROW.findall(GUIDE))
    assert len(logged) > 30
    missing, gone = logged.keys() - documented, documented.keys() - logged
    assert not missing, f"docs/operators.md lacks a row for these events: {sorted(missing)}"
    assert not gone, f"docs/operators.md explains events that nothing logs: {sorted(gone)}"
    assert documented == logged


def test_every_reason_to_drop_stands_in_the_document() -> None:
    found = {
        name
        for path in SOURCES
        for text in ast.walk(ast.parse(path.read_text()))
        if isinstance(text, ast.Constant) and isinstance(text.value, str) and DROP.fullmatch(text.value)
        for name in [text.value]
    }
    assert "drop-source" in found
    missing = found - set(DROP.findall(GUIDE))
    assert not missing, f"docs/operators.md does not explain: {sorted(missing)}"


@pytest.mark.parametrize(
    "said",
    [CONFIG_FILE, f"at most {MOST} lines a minute", "protocol number 116", "8285/udp", "subnet.env"],
)
def test_what_it_says_of_paths_and_numbers_is_what_the_code_does(said: str) -> None:
    assert said in GUIDE


@pytest.mark.parametrize("document", ["operators.md", "faq.md", "plugin-authors.md"])
def test_every_file_that_a_document_points_to_is_there(document: str) -> None:
    text = (ROOT / "docs" / document).read_text()
    named = set(re.findall(r"(?<![\w/.-])(?:packaging|docs|examples|core|plugins)/[\w./-]*\w", text))
    named |= {f"docs/{target}" for target in re.findall(r"\]\(([\w./-]+\.md)\)", text)}
    missing = [name for name in sorted(named) if not (ROOT / name).exists()]
    assert missing == []


def test_the_unit_bounds_tulled_to_the_capabilities_that_it_names() -> None:
    unit = (ROOT / "packaging" / "systemd" / "tulled.service").read_text()
    bound = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.M)
    assert bound is not None
    assert set(bound[1].split()) == set(re.findall(r"CAP_[A-Z_]+", GUIDE))


def test_the_network_config_of_init_is_one_that_tulled_takes() -> None:
    network = re.search(r"tulle init --network (\S+)", GUIDE)
    assert network is not None
    assert parse_network_config(f'{{"Network": "{network[1]}"}}').backend_type == "udp"
