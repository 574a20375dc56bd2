"""JSON objects from a store, whoever wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.config.errors import ConfigError
from tulle.config.jsontext import read_object

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.integers().map(str), values))
def test_an_object_comes_out_as_it_was_written(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    assert read_object(text, "it", "x")[0] == read_object(text.encode(), "it", "x")[0] == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "Network: 10.5.0.0/16",
        "{'Network': 1}",
        '{"a": NaN}',
        '{"a": 1e999}',
        b"\xff\xfe{}",
        "\ufeff{}",
        pytest.param("[" * 100_000, id="deep"),
        pytest.param('{"a":' * 100_000, id="deep objects"),
        pytest.param('{"a": ' + "9" * 5_000 + "}", id="a number of 5,000 digits"),
    ],
)
def test_text_that_is_not_json_is_named_so(text: str | bytes) -> None:
    with pytest.raises(ConfigError, match="it: is not JSON"):
        read_object(text, "it", "x")


@pytest.mark.parametrize("text", ["[]", "null", "1", '"x"', "true"])
def test_json_that_is_no_object_is_named_so(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a JSON object"):
        read_object(text, "it", "x")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('{"a": 1, "a": 1}', ["a"]),
        ('{"Network": 1, "network": 1}', ["network"]),
        ('{"B": {"Port": 1, "port": 2}}', ["B.port"]),
        ('{"B": {"c": {"x": 1, "X": 2}}}', []),
        ('{"B": {"c": [{"x": 1, "x": 2}]}}', ["B.c[0].x"]),
        ('{"a": 1, "b": 1}', []),
    ],
)
def test_a_key_that_stands_there_twice_is_a_problem(text: str, keys: list[str]) -> None:
    _, problems = read_object(text, "it", "x")
    assert [problem.key for problem in problems] == keys
