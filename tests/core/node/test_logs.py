"""The log: one line an event on standard error, with UTC time."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
from tulle.node import logs
logs.set_up(0)
logs.set_up(int(sys.argv[1]))
logging.getLogger("tulle.node").info("subnet %s", "10.5.52.0/24")
logging.getLogger("tulle.node").debug("detail")
logging.getLogger("other").debug("others' detail")
logging.getLogger("grpc").info("chatter")
"""
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?P<level>[A-Z]+) (?P<name>\S+) (?P<text>.*)")


@pytest.mark.parametrize(
    ("verbosity", "said"),
    [
        (0, ["subnet 10.5.52.0/24"]),
        (1, ["subnet 10.5.52.0/24", "detail"]),
        (3, ["subnet 10.5.52.0/24", "detail", "others' detail", "chatter"]),
    ],
)
def test_higher_levels_say_more_each_once(verbosity: int, said: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(verbosity)], capture_output=True, text=True, check=True
    )
    found = [LINE.fullmatch(line) for line in done.stderr.splitlines()]
    assert [match["text"] for match in found if match] == said
    assert all(found)
    assert done.stdout == ""
