"""Options of a backend, from its object in the network config."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.config.errors import ConfigError
from tulle.config.options import SECRET, convert_options


class Udp(msgspec.Struct, frozen=True, rename="pascal"):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8285
    source_check: Literal["strict", "peer"] = "strict"
    learning: bool = False


class Rich(msgspec.Struct, frozen=True):
    Key: Annotated[str, SECRET, msgspec.Meta(min_length=4)]
    Ratio: float = 0.5
    Tables: str | list[str] = ""
    MTU: int | None = None
    Extra: dict[str, int] = {}
    Name: Annotated[str, msgspec.Meta(pattern="^[a-z]+$")] = "a"

    def __post_init__(self) -> None:
        if self.MTU is not None and self.MTU < 68:
            raise ValueError("MTU: 20 is too small; give at least 68")


def problems(type: type[msgspec.Struct], raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        convert_options(type, raw)
    return [str(problem) for problem in caught.value.problems]


def test_keys_match_the_encoded_names_without_case() -> None:
    options, unknown = convert_options(Udp, {"PORT": 9, "sourcecheck": "peer", "Else": 1})
    assert options == Udp(9, "peer")
    assert unknown == ("Else",)


def test_nothing_given_is_all_defaults_and_so_is_null() -> None:
    assert convert_options(Udp, {}) == convert_options(Udp, {"Port": None}) == (Udp(), ())


def test_all_problems_are_told_at_once() -> None:
    assert problems(Udp, {"Port": "8285", "SourceCheck": "lax", "Learning": 1}) == [
        'Backend.Port: "8285" does not fit; give a whole number from 1 up to 65535',
        'Backend.SourceCheck: "lax" does not fit; give "peer" or "strict"',
        "Backend.Learning: 1 does not fit; give true or false",
    ]


def test_each_kind_of_field_says_what_it_takes() -> None:
    raw = {"Key": "long enough", "Ratio": "x", "Tables": 1, "MTU": 1.5, "Extra": 1, "Name": "A"}
    assert problems(Rich, raw) == [
        'Backend.Ratio: "x" does not fit; give a number',
        "Backend.Tables: 1 does not fit; give text in quotes or a list, each item text in quotes",
        "Backend.MTU: 1.5 does not fit; give a whole number",
        "Backend.Extra: 1 does not fit; give an object",
        'Backend.Name: "A" does not fit; give text in quotes that matches ^[a-z]+$',
    ]


def test_a_secret_is_not_shown() -> None:
    assert problems(Rich, {"Key": "abc"}) == [
        "Backend.Key: (hidden) does not fit; give text in quotes of at least 4 characters"
    ]


@pytest.mark.parametrize("raw", [{}, {"Key": None}])
def test_a_required_field_that_is_missing_is_named(raw: dict[str, Any]) -> None:
    assert problems(Rich, raw) == ["Backend.Key: is missing; give text in quotes of at least 4 characters"]


def test_what_the_type_itself_refuses_is_a_problem() -> None:
    assert problems(Rich, {"Key": "long", "MTU": 20}) == ["Backend: MTU: 20 is too small; give at least 68"]


class Checked(msgspec.Struct, frozen=True):
    low: int = 1
    high: int = 10
    word: str = "a"
    other: str = ""

    def __post_init__(self) -> None:
        if self.word != "a":
            raise ValueError(f"word: {self.word} is unknown; give a")
        if self.low > self.high:
            raise ValueError(f"low: {self.low} is above high {self.high}")
        if self.other == "bad":
            raise ValueError("other: bad is unknown; give anything else")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (
            {"word": "x", "other": "bad"},
            ["word: x is unknown; give a", "other: bad is unknown; give anything else"],
        ),
        (
            {"other": "bad", "low": 5, "high": 3, "word": "x"},
            [
                "word: x is unknown; give a",
                "low: 5 is above high 3",
                "other: bad is unknown; give anything else",
            ],
        ),
        (
            {"low": 20, "high": 30, "word": "x"},
            ["word: x is unknown; give a"],
        ),  # these two are right together
    ],
)
def test_all_that_the_type_itself_refuses_is_told_at_once(raw: dict[str, Any], told: list[str]) -> None:
    assert problems(Checked, raw) == [f"Backend: {one}" for one in told]


def test_what_the_type_itself_refuses_is_told_beside_what_does_not_fit() -> None:
    assert problems(Checked, {"low": "x", "word": "y"}) == [
        'Backend.low: "x" does not fit; give a whole number',
        "Backend: word: y is unknown; give a",
    ]
    assert problems(Rich, {"Key": "long", "Ratio": "x", "MTU": 20}) == [
        'Backend.Ratio: "x" does not fit; give a number',
        "Backend: MTU: 20 is too small; give at least 68",
    ]


def test_two_keys_of_one_meaning_are_a_problem() -> None:
    assert problems(Udp, {"Port": 1, "port": 2}) == [
        'Backend.Port: stands there twice, as "Port" and as "port"; give it once'
    ]


def test_the_place_is_the_callers() -> None:
    with pytest.raises(ConfigError, match=r"Tulle\.dns\.Port"):
        convert_options(Udp, {"Port": "x"}, "Tulle.dns")


@given(
    st.dictionaries(
        st.sampled_from(["Key", "Ratio", "Tables", "MTU", "mtu", "Extra", "Name", "x"]),
        st.recursive(
            st.none() | st.integers() | st.floats() | st.text() | st.booleans(), st.lists, max_leaves=4
        ),
    )
)
def test_any_values_give_the_type_or_a_config_error(raw: dict[str, Any]) -> None:
    try:
        options, _ = convert_options(Rich, raw)
    except ConfigError as error:
        if not error.problems:
            pytest.fail("an error without a problem")
    else:
        assert msgspec.convert(msgspec.to_builtins(options), Rich) == options
