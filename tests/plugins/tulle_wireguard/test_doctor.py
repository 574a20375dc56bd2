"""The doctor's look at the `wg` sockets: dead ones are named, and nothing is changed."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.contracts.specs import load
from tulle_wireguard import tulle_doctor_checks, uapi_socket


def found(backend: str) -> list[Finding]:
    (spec,) = tulle_doctor_checks()
    nowhere = Path("/nowhere")
    ctx = DoctorContext(node="n1", run_dir=nowhere, state_dir=nowhere, subnet_file=nowhere, backend=backend)
    findings: list[Finding] = asyncio.run(load(spec.factory)(ctx))
    return findings


def test_a_socket_that_nobody_serves_is_named_with_what_takes_it_away(wg_sockets: Path) -> None:
    path = wg_sockets / "tulle-wg.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        assert [(it.severity, it.subject) for it in found("wireguard")] == [("ok", str(wg_sockets))]
        assert found("udp") == []
    for backend in ("udp", "wireguard", ""):
        (left,) = found(backend)
        assert (left.severity, left.subject, left.mend) == ("warning", str(path), f"rm {path}")
    assert path.exists()


def test_a_place_that_is_not_there_holds_nothing(wg_sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uapi_socket, "DIRECTORY", wg_sockets / "none")
    assert found("udp") == []
