"""`tulle trace` as a command: what is printed, and what is said where nothing is known. Real ways: tests/lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tulle.cli.trace import show
from tulle.trace.verdict import Verdict
from tulle.trace.way import Step

WAY = [
    Step("destination", "10.42.2.2: in 10.42.2.0/24, the subnet of n2", "lease 10.42.2.0-24"),
    Step("route", "out of tulle0"),
]


def test_each_step_has_a_line_with_its_rule_then_the_probe(capsys: pytest.CaptureFixture[str]) -> None:
    show(WAY, Verdict(True, "", "3 of 3 answered, 0.50 ms"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["ok", "destination"], ["ok", "route"]]
    assert lines[1].endswith("lease 10.42.2.0-24")
    assert lines[2].endswith("-")
    assert lines[3] == "probe: arrived, 3 of 3 answered, 0.50 ms"


def test_where_it_stops_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    show(WAY, Verdict(False, "underlay", "n2 is down"))
    assert capsys.readouterr().out.splitlines()[-1] == "probe: stopped at underlay: n2 is down"
    show([*WAY, Step("peer", "no node's lease holds this address", ok=False)], None)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split()[:2] == ["stop", "peer"]


def test_a_step_that_only_small_packets_pass_is_neither_ok_nor_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = Step("MTU", "packets of more than 1452 bytes are cut or dropped on eth0", ok=False, part=True)
    show([*WAY, step], Verdict(True, "", "3 of 3 answered"))
    *_, last, probe = capsys.readouterr().out.splitlines()
    assert last.split()[:2] == ["part", "MTU"]
    assert probe.startswith("probe: arrived")


@pytest.mark.parametrize("word", ["trace", "ping"])
def test_a_node_that_nobody_knows_is_status_2_and_says_who_does_not_answer(
    tulle: Any, store: tuple[str, ...], tmp_path: Path, word: str
) -> None:
    said = tulle(word, "n7", *store, "--node-name=n1")
    assert said.status == 2
    assert "'n7' is no" in said.err
    assert f"No tulled answers here ({tmp_path / 'run/tulled.sock'}: tulled does not answer" in said.err
    assert f"nor does the store: there is no store file {tmp_path / 'store.sqlite'}" in said.err
    assert not (tmp_path / "store.sqlite").exists()


def test_a_pod_by_name_is_refused_where_the_store_knows_no_pods(tulle: Any, store: tuple[str, ...]) -> None:
    tulle("init", *store)
    said = tulle("trace", "n1/p1", *store)
    assert said.status == 2
    assert "/coreos.com/network/pods/" in said.err
