"""YAML as PyYAML, which shares no code with ours, reads it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tulle.cli.yamltext import to_yaml

TRICKY = (
    *(
        "",
        "yes",
        "No",
        "null",
        "~",
        "-",
        "- a",
        "a: b",
        "a #b",
        "0x10",
        "1e3",
        "1:30",
        "=",
        "<<",
        "!x",
        "&x",
        "*x",
    ),
    *(
        "2026-01-01",
        "12:30:45",
        "0o7",
        ".inf",
        "NaN",
        "@a",
        "`a",
        "%a",
        "a\n",
        " a",
        "a ",
        "? a",
        "|",
        ">",
        "{}",
        "a,",
    ),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(TRICKY)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_as_it_was(value: Any) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


@given(TEXTS)
def test_a_text_stays_a_text(text: str) -> None:
    assert yaml.safe_load(to_yaml({text: [text]})) == {text: [text]}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"node": "n1", "ready": True, "peers": []}, "node: n1\nready: true\npeers: []\n"),
        (
            {"a": {"b": ["x", {"c": 1, "d": "10.5.1.0/24"}]}},
            'a:\n  b:\n    - x\n    - c: 1\n      d: "10.5.1.0/24"\n',
        ),
        ([["a", "b"], []], "- - a\n  - b\n- []\n"),
        ("no store answers", "no store answers\n"),
        ("no: it does not", '"no: it does not"\n'),
    ],
)
def test_it_is_pleasant_to_read(value: Any, written: str) -> None:
    assert to_yaml(value) == written
