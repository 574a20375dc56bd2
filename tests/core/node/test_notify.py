"""Words to a service manager that listens on a real socket."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from tulle.node.notify import ServiceManager


@pytest.mark.parametrize("abstract", [False, True])
def test_what_is_said_arrives_at_the_socket_of_the_environment(tmp_path: Path, abstract: bool) -> None:
    name = f"@tulle-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5)
        service = ServiceManager({"NOTIFY_SOCKET": name})
        service.status("one")
        service.status("one")
        service.ready()
        service.alive()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        service.reloading()
        service.stopping()
        heard = [manager.recv(100).decode() for _ in range(5)]
    reloading, _, monotonic_usec = heard.pop(3).partition("\nMONOTONIC_USEC=")
    assert reloading == "RELOADING=1"
    assert before <= int(monotonic_usec) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert heard == ["STATUS=one", "READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_nothing_happens_where_nobody_listens(tmp_path: Path) -> None:
    ServiceManager({}).ready()
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()


@pytest.mark.parametrize(
    ("environ", "period_s"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_period_is_taken_from_the_environment(
    environ: dict[str, str], period_s: float | None
) -> None:
    assert ServiceManager(environ).watchdog_s == period_s
