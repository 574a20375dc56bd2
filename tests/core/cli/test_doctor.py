"""`tulle doctor` as a command: its text, its exit status, a store that is not there, a check that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from tulle.cli.doctor import show
from tulle.contracts.doctor import Finding
from tulle.doctor.run import Report

FINDINGS = (
    Finding(check="clock", severity="ok", subject="peers", what="agree"),
    Finding(check="disk", severity="skipped", subject="/x", what="cannot be read"),
    Finding(
        check="mtu", severity="warning", subject="cni0", what="too large", why="drops", mend="ip link set ..."
    ),
    Finding(
        check="port", severity="error", subject="8285", what="taken\x1b[2J", why="no packets", mend="kill 7"
    ),
)


def test_all_findings_have_a_line_and_the_wrong_ones_say_why_and_what_mends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(Report("n1", 1, 1, FINDINGS), problems=False)
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert lines[0].split() == ["ok", "clock", "peers:", "agree"]
    assert [line.split()[0] for line in lines] == [
        *("ok", "skipped", "warning", "why", "mend", "error", "why", "mend", "n1:")
    ]
    assert lines[-2].strip() == "mend  kill 7"
    assert lines[-1] == "n1: 1 error, 1 warning"
    assert not any("\x1b" in line for line in lines)


def test_problems_leave_out_what_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    show(Report("n1", 2, 0, FINDINGS[:2]), problems=True)
    assert capsys.readouterr().out == "n1: 2 errors, 0 warnings\n"


def test_a_store_that_is_not_there_is_a_finding_and_is_not_made(
    tulle: Any, store: tuple[str, ...], tmp_path: Path
) -> None:
    said = tulle("doctor", "--check", "store", "-o", "json", *store)
    report = json.loads(said.out)
    assert (said.status, report["errors"]) == (1, 1)
    assert f"there is no store file {tmp_path / 'store.sqlite'}" in report["findings"][0]["what"]
    assert not (tmp_path / "store.sqlite").exists()


def test_a_store_that_is_there_is_no_error_and_status_0(tulle: Any, store: tuple[str, ...]) -> None:
    tulle("init", *store)
    said = tulle("doctor", "--check", "store", *store)
    assert (said.status, said.err) == (0, "")
    assert "takes writes" in said.out


def test_settings_that_the_store_refuses_are_a_finding(tulle: Any, tmp_path: Path) -> None:
    words = ("--etcd-endpoints=ftp://192.0.2.1", f"--run-dir={tmp_path}", f"--state-dir={tmp_path}")
    said = tulle("doctor", "--check", "store", "-o", "json", *words)
    assert said.status == 1
    assert "ftp" in json.loads(said.out)["findings"][0]["what"]


def test_a_check_that_is_none_is_status_2_and_those_there_are_are_named(
    tulle: Any, store: tuple[str, ...]
) -> None:
    said = tulle("doctor", "--check", "nonsense", *store)
    assert said.status == 2
    assert "there is no check 'nonsense'; there are: br-netfilter, clock, disk," in said.err
