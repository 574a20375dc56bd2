"""`tulle status`, where nothing runs and where something does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tulle.cli import status

READY: dict[str, Any] = {
    "node": "n1",
    "version": "0.1.0",
    "ready": True,
    "not_ready_because": [],
    "store": {"name": "sqlite", "location": "/x/store.sqlite", "single_machine": True, "state": "synced"},
    "networks": ["10.42.0.0/16"],
    "subnets": ["10.42.5.0/24"],
    "underlay": {
        "link": "eth0",
        "mtu": 1500,
        "addresses": ["192.0.2.1"],
        "public": ["192.0.2.1"],
        "because": "x",
    },
    "backend": {"type": "udp"},
    "dataplane": {
        "engine": "python",
        "engine_because": "the only one installed",
        "engine_notes": ["user nobody"],
        "forwarder_pid": 7,
        "forwarder_restarts": 0,
        "generation_wanted": 2,
        "generation_applied": 2,
        "errors": [],
        "counters": {"packets-in": 3},
        "peers": {"10.42.6.0-24": {"packets-in": 3, "bytes-in": 2500, "last-seen": 61.0}},
    },
    "components": {},
    "peers": [
        {
            "key": "10.42.6.0-24",
            "node": "n2",
            "subnets": ["10.42.6.0/24"],
            "endpoints": ["192.0.2.2"],
            "backend": "",
        }
    ],
    "problems": [{"code": "peer-unreachable", "subject": "n2", "message": "no answer; look at its tulled"}],
    "mended": [{"at": 1.0, "line": "tulle0: mtu was 1300, set to 1472"}],
}
STARTING = READY | {
    "ready": False,
    "not_ready_because": ["waiting for the network config"],
    "networks": [],
    "subnets": [],
    "underlay": {},
    "backend": {},
    "dataplane": {},
    "peers": [],
    "problems": [],
    "mended": [],
}


def answering(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    class Answering:
        def __init__(self, run_dir: Path) -> None:
            pass

        def get(self, path: str) -> Any:
            assert path == "status"
            return answer

    monkeypatch.setattr(status, "Client", Answering)


def test_where_nothing_runs_it_says_so_and_what_to_look_at(tulle: Any, tmp_path: Path) -> None:
    said = tulle("status", f"--run-dir={tmp_path}")
    assert said.status == 1
    assert said.out == ""
    assert f"{tmp_path / 'tulled.sock'}: tulled does not answer" in said.err
    assert "is --run-dir right?" in said.err


def test_a_ready_node_is_one_screen(tulle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, READY)
    said = tulle("status")
    assert said.status == 0
    for words in (
        "n1: ready",
        "10.42.5.0/24",
        "engine python",
        "forwarder 7",
        "1m01s",
        "2.5 kB",
        "look at its tulled",
    ):
        assert words in said.out
    assert len(said.out.splitlines()) < 25


def test_a_node_that_is_not_ready_says_why_and_is_status_1(
    tulle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, STARTING)
    said = tulle("status")
    assert said.status == 1
    assert "not ready: waiting for the network config" in said.out


def test_json_is_what_tulled_said(tulle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, READY)
    assert json.loads(tulle("status", "-o", "json").out) == READY
