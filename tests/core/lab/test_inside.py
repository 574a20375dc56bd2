"""A running lab from outside."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tulle.lab import Lab, LabError
from tulle.lab.inside import Inside, Resident, stop, tail
from tulle.lab.plan import Place, Plan

pytestmark = pytest.mark.lab


def test_a_lab_that_is_not_up_says_so() -> None:
    with pytest.raises(LabError, match=r"'down' is not up.*tulle lab list"):
        Inside(Plan(name="down")).run("n1", ["true"])


def test_a_failing_program_is_an_error_with_its_place_status_and_last_words(bare: Lab) -> None:
    with pytest.raises(LabError, match=r"in n1/p1 ended with status 4:\n    it broke"):
        bare.run("n1/p1", ["sh", "-c", "echo it broke >&2; exit 4"])


def test_a_program_that_does_not_end_is_an_error_and_is_ended(bare: Lab) -> None:
    with pytest.raises(LabError, match=r"'sleep 63\.5' in n1 did not end within 0\.3 s"):
        bare.run("n1", ["sleep", "63.5"], timeout=0.3)


def test_a_place_that_the_lab_does_not_have_is_an_error(bare: Lab) -> None:
    for place in ("n3", "n1/p3"):
        with pytest.raises(LabError, match="It has"):
            bare.run(place, ["true"])


def test_every_place_has_its_addresses(bare: Lab) -> None:
    assert bare.address("n2") == "192.0.2.2"
    assert bare.address("n2", 6) == "2001:db8::2"
    assert bare.address("n2/p1") == "10.42.2.2"
    assert bare.address("n2/p1", 6) == "fd42:0:0:2::2"
    assert bare.address("switch") == "192.0.2.254"


def test_an_address_of_a_family_that_the_lab_does_not_use_is_an_error() -> None:
    with pytest.raises(LabError, match="no IPv6 address in a lab of --family 4"):
        Inside(Plan(name="x")).address("n1", 6)


def test_files_are_written_and_read_as_they_are_seen_there(bare: Lab) -> None:
    text = "first\nsecond with 'quotes' and $dollars\n"
    bare.write_file("n2", "/run/a file", text)
    assert bare.read_file("n2", "/run/a file") == text
    with pytest.raises(LabError, match="No such file"):
        bare.read_file("n1", "/run/a file")


def test_the_processes_of_a_lab_are_known_by_their_place(bare: Lab) -> None:
    wanted = {"64.0": Place(), "64.1": Place("n1"), "64.2": Place("n2", "p1")}
    started = [bare.popen(place.label, ["sleep", mark]) for mark, place in wanted.items()]

    def found() -> dict[str, Resident]:
        return {
            one.argv[1]: one for one in bare.residents() if one.argv[0] == "sleep" and one.argv[1] in wanted
        }

    try:
        while len(found()) < len(wanted):
            time.sleep(0.01)
        assert {mark: one.place for mark, one in found().items()} == wanted
        for one in found().values():
            assert Path(f"/proc/{one.pid}/comm").read_text() == "sleep\n"
    finally:
        for process in started:
            stop(process)
    assert found() == {}


def test_the_tail_of_an_output_is_its_last_lines() -> None:
    assert tail("\n".join(map(str, range(100)))).split()[0] == "85"
    assert "wrote nothing" in tail("\n")
