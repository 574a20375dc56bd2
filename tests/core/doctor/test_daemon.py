"""tulled and its forwarder: every state that they can be found in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.contracts.doctor import DoctorContext
from tulle.doctor.daemon import fingerprint, judge_forwarder, judge_forwarders, judge_tulled

RIGHT = "tulle 1.0, engine python, encapsulation udp"
PLANE = {"engine": "python", "forwarder_pid": 7}


def changed(context: DoctorContext, **status: Any) -> DoctorContext:
    assert context.status is not None
    return msgspec.structs.replace(context, status={**context.status, **status})


def test_a_tulled_that_runs_is_ready_and_of_this_version_is_ok(context: DoctorContext) -> None:
    (found,) = judge_tulled(context, 5, "start it")
    assert found.severity == "ok"


def test_no_tulled_and_one_that_does_not_answer_are_told_apart(context: DoctorContext) -> None:
    silent = msgspec.structs.replace(context, status=None, status_error="refused")
    (gone,) = judge_tulled(silent, None, "start it")
    (hung,) = judge_tulled(silent, 5, "start it")
    assert (gone.severity, gone.mend) == ("error", "start it")
    assert "no tulled runs" in gone.what
    assert (hung.severity, hung.mend) == ("error", "kill 5; start it")
    assert "does not answer" in hung.what


def test_every_reason_and_every_problem_of_tulled_is_repeated(context: DoctorContext) -> None:
    problem = {"code": "x", "subject": "n9", "message": "it has no address"}
    found = judge_tulled(
        changed(context, ready=False, not_ready_because=["a", "b"], problems=[problem]), 5, "x"
    )
    assert [one.severity for one in found] == ["error", "error"]
    assert "a; b" in found[0].what
    assert (found[1].subject, found[1].what) == ("n9", "it has no address")


def test_a_tulled_of_another_version_is_a_warning(context: DoctorContext) -> None:
    (found,) = judge_tulled(changed(context, version="0.0.1"), 5, "restart it")
    assert (found.severity, found.mend) == ("warning", "restart it")


def test_the_forwarder_that_tulled_names_is_ok() -> None:
    (found,) = judge_forwarder({7: RIGHT}, PLANE, "restart", "1.0")
    assert found.severity == "ok"


@pytest.mark.parametrize(
    ("plane", "severity"), [(PLANE, "error"), ({"engine": ""}, "skipped"), (None, "skipped")]
)
def test_no_forwarder_matters_only_where_there_is_to_be_one(
    plane: dict[str, Any] | None, severity: str
) -> None:
    (found,) = judge_forwarder({}, plane, "restart", "1.0")
    assert found.severity == severity


def test_a_second_forwarder_and_one_of_another_version_are_warnings() -> None:
    found = judge_forwarder(
        {7: RIGHT, 8: "tulle 0.9, engine python, encapsulation udp"}, PLANE, "restart", "1.0"
    )
    assert {(one.subject, one.severity, one.mend) for one in found} == {
        ("forwarder 8", "warning", "kill 8"),
        ("forwarder 8", "warning", "restart"),
    }


def test_without_a_tulled_only_the_further_ones_are_strays() -> None:
    assert [one.subject for one in judge_forwarder({7: RIGHT, 8: RIGHT}, None, "x", "1.0")] == ["forwarder 8"]


def test_each_plane_has_its_own_forwarder_and_one_of_no_plane_is_a_stray() -> None:
    status = {"dataplane": PLANE, "second_dataplanes": {"v6": {**PLANE, "forwarder_pid": 8}}}
    right = {"": {7: RIGHT}, "v6": {8: RIGHT}}
    assert [one.severity for one in judge_forwarders(right, status, "restart", "1.0")] == ["ok", "ok"]
    (_, lost) = judge_forwarders({"": {7: RIGHT}}, status, "restart", "1.0")
    assert (lost.severity, lost.what) == ("error", "no forwarder runs")
    (_, stray) = judge_forwarders(right, {"dataplane": PLANE}, "restart", "1.0")
    assert (stray.severity, stray.mend) == ("warning", "kill 8")
    assert [one.severity for one in judge_forwarders(right, None, "restart", "1.0")] == ["ok", "ok"]


def test_a_fingerprint_is_read_from_the_command_line(tmp_path: Path) -> None:
    cmdline = tmp_path / "cmdline"
    cmdline.write_bytes(b"python3\0tulle-forwarder\0--fingerprint\0tulle 1.0, engine x\0--run-dir\0/run\0")
    assert fingerprint(cmdline) == "tulle 1.0, engine x"
    cmdline.write_bytes(b"python3\0--fingerprint")
    assert fingerprint(cmdline) == ""
    assert fingerprint(tmp_path / "gone") == ""
