"""What a config error says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.config.errors import ConfigError, ConfigProblem, nearest, printable, shown

BAD = ConfigProblem("Network", '"10.5.0.0/33"', "one such as 10.5.0.0/16", "is not an IPv4 network")
MISSING = ConfigProblem("Backend.Type", None, 'a name such as "udp"', "is missing")


def test_a_problem_names_key_value_and_what_would_be_right() -> None:
    assert str(BAD) == 'Network: "10.5.0.0/33" is not an IPv4 network; give one such as 10.5.0.0/16'
    assert str(MISSING) == 'Backend.Type: is missing; give a name such as "udp"'


def test_an_error_lists_all_problems() -> None:
    error = ConfigError([BAD, MISSING], "the network config")
    assert str(error).splitlines() == ["2 problems in the network config:", f"  {BAD}", f"  {MISSING}"]
    assert str(ConfigError([BAD])).startswith("1 problem in the configuration:\n")
    assert error.problems == (BAD, MISSING)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", '"x"'),
        (True, "true"),
        (None, "null"),
        (24, "24"),
        ("\x1b[2J\ud800", '"\\u001b[2J\\ud800"'),
        (b"x", "b'x'"),
    ],
)
def test_a_value_is_shown_as_json_that_any_terminal_takes(value: Any, text: str) -> None:
    assert shown(value) == text


@given(st.recursive(st.none() | st.text() | st.floats() | st.binary(), st.lists, max_leaves=20))
def test_whatever_is_shown_is_short_and_plain(value: Any) -> None:
    text = shown(value)
    assert len(text) <= 60
    assert text.isascii()
    assert text.isprintable()


def test_a_key_is_quoted_only_where_it_is_odd() -> None:
    assert printable("Backend.Port") == "Backend.Port"
    assert printable("a\nb") == '"a\\nb"'


def test_the_nearest_word_is_found_whatever_its_case() -> None:
    assert nearest("netwrok", ["Network", "SubnetLen"]) == "Network"
    assert nearest("zzzzz", ["Network", "SubnetLen"]) is None
