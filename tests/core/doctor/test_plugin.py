"""The list of the built-in checks, and the guide that names them."""

from __future__ import annotations

import re
from pathlib import Path

from tulle.doctor.plugin import tulle_doctor_checks

GUIDE = Path(__file__).parents[3] / "docs" / "operators.md"


def test_the_operators_guide_names_each_check_in_the_order_in_which_they_are_run() -> None:
    _, _, behind = GUIDE.read_text().partition("| check | what is right |\n")
    table, _, _ = behind.partition("\n\n")
    named = re.findall(r"^\| `([a-z-]+)` \| \S", table, re.MULTILINE)
    assert named == [one.name for one in tulle_doctor_checks()]
