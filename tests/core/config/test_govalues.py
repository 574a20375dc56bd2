"""Values as Go's flag package reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.config.govalues import compile_regexp, parse_bool, parse_duration, parse_int


@pytest.mark.parametrize("word", ["1", "t", "T", "TRUE", "true", "True"])
def test_go_takes_these_words_for_true(word: str) -> None:
    assert parse_bool(word) is True


@pytest.mark.parametrize("word", ["0", "f", "F", "FALSE", "false", "False"])
def test_go_takes_these_words_for_false(word: str) -> None:
    assert parse_bool(word) is False


@pytest.mark.parametrize("word", ["", "yes", "no", "on", "tRUE", "y", "2", " true", "truE"])
def test_other_words_are_neither(word: str) -> None:
    assert parse_bool(word) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("+7", 7),
        ("-7", -7),
        ("0x1F", 31),
        ("0b101", 5),
        ("0o17", 15),
        ("017", 15),
        ("1_000", 1000),
        ("0x_ff", 255),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_numbers_are_read_in_gos_bases(text: str, number: int) -> None:
    assert parse_int(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "08",
        "0x",
        "1.5",
        "1e3",
        " 1",
        "1\n",
        "_1",
        "1_",
        "1__0",
        "٣",
        "9223372036854775808",
        "9" * 99,
        "9" * 9999,
    ],
    ids=range(15),
)
def test_what_go_does_not_take_for_a_number_is_none(text: str) -> None:
    assert parse_int(text) is None


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_64_bit_number_is_read_back(number: int) -> None:
    assert parse_int(str(number)) == parse_int(hex(number)) == number


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5m", 30),
        ("5.s", 5),
        ("-2m", -120),
        ("+2m", 120),
        ("250ms", 0.25),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("4ns", 4e-9),
        ("1m1ms", 60.001),
    ],
)
def test_durations_are_read_as_go_reads_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "1", "s", ".s", "1d", "1h 30m", "--1s", "1h-30m", "1e3s", "9" * 30 + "h", "1s" * 99]
)
def test_what_go_does_not_take_for_a_duration_is_none(text: str) -> None:
    assert parse_duration(text) is None


@given(st.text(max_size=120) | st.text("0123456789.hmsnuµ_x+-", max_size=120))
def test_any_text_is_a_value_or_none(text: str) -> None:
    assert parse_bool(text) in (True, False, None)
    assert isinstance(parse_int(text), int | None)
    assert isinstance(parse_duration(text), float | None)


@pytest.mark.parametrize(
    ("pattern", "found", "other"),
    [
        (r"^eth\d+$", "eth10", "veth10"),
        ("^(ens|eth)", "ens3", "lo"),
        ("^e[[:alpha:]]{2}[[:digit:]]\\z", "eth0", "eth01"),
        ("(?i)ETH", "eth0", "lo"),
        (r"192\.0\.", "192.0.2.1", "19210"),
        (r"\d", "eth0", "eth\u0663"),
        ("[[a]", "[", "b"),
    ],
)
def test_a_regular_expression_means_what_it_means_in_go(pattern: str, found: str, other: str) -> None:
    compiled = compile_regexp(pattern)
    assert compiled.search(found)
    assert not compiled.search(other)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("eth[0", "unterminated character set at position 3"),
        ("*", "nothing to repeat at position 0"),
        ("(" * 5000 + ")" * 5000, "recursion"),
        ("a{99999999999999999999}", "too large"),
    ],
)
def test_what_is_no_regular_expression_is_told_with_its_place(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        compile_regexp(pattern)


@given(st.text(max_size=20))
def test_any_text_compiles_or_is_a_value_error_with_a_reason(text: str) -> None:
    reason = "none"
    try:
        compile_regexp(text)
    except ValueError as error:
        reason = str(error)
    assert reason
