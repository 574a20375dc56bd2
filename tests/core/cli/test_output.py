"""What commands print: columns, JSON, times and sizes for people."""

from __future__ import annotations

import json

import msgspec
import pytest

from tulle.cli.output import as_json, duration, size, table


def test_columns_are_as_wide_as_they_need_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    table(("NAME", "N"), [("a", 1), ("a longer one", 22)])
    assert capsys.readouterr().out == "NAME          N\na             1\na longer one  22\n"


def test_a_table_without_rows_is_its_headers(capsys: pytest.CaptureFixture[str]) -> None:
    table(("NAME", "N"), [])
    assert capsys.readouterr().out == "NAME  N\n"


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    class Line(msgspec.Struct):
        name: str

    as_json([Line("é"), {"a": None}])
    assert json.loads(capsys.readouterr().out) == [{"name": "é"}, {"a": None}]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (250, "4m10s"),
        (3600, "1h00m"),
        (86399, "23h59m"),
    ],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1.2e9, "1.2 GB"), (5e15, "5000.0 TB")]
)
def test_sizes_are_short(count: float, text: str) -> None:
    assert size(count) == text
