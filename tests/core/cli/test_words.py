"""Groups of words: what is said to one that is none."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from tulle.cli.words import Words


@click.group(cls=Words)
def group() -> None:
    """A group."""


@group.command("reserve")
@click.argument("what", default="")
def reserve(what: str) -> None:
    """A word."""
    click.echo(f"reserved {what}")


@group.command("list")
def list_() -> None:
    """Another."""


@pytest.mark.parametrize(
    ("word", "advice"),
    [("reserv", "Did you mean reserve?"), ("lits", "Did you mean list?"), ("x", "There are: list, reserve.")],
)
def test_a_word_that_is_none_is_named_with_what_was_meant(word: str, advice: str) -> None:
    result = CliRunner().invoke(group, [word])
    assert result.exit_code == 2
    assert f"There is no word {word!r}. {advice}" in result.output


def test_words_and_flags_work_as_they_do() -> None:
    assert CliRunner().invoke(group, ["reserve", "it"]).output == "reserved it\n"
    assert CliRunner().invoke(group, ["--help"]).exit_code == 0
    assert "No such option" in CliRunner().invoke(group, ["--nonsense"]).output
