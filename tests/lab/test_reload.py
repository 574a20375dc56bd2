"""SIGHUP: what can change without a restart does, the rest is named, the service manager hears both ends of it, and
packets go on. And what else systemd is told on the way from start to end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.registry import Registry

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-reload")]

FILE = "/run/tulled.toml"
TULLED = [sys.executable, "-m", "tulle.node.main"]
NOTIFY = "/run/notify"
LISTEN = """
import socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.bind(sys.argv[1])
print("listening", flush=True)
while True:
    print(sock.recv(4096).decode().replace("\\n", " "), flush=True)
"""
ASK = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).status)"


@pytest.fixture
def lab(registry: Registry) -> Iterator[Lab]:
    with Lab(nodes=2, pods=1, registry=registry) as lab:
        yield lab


@contextmanager
def service_manager(lab: Lab) -> Iterator[Callable[[], str]]:
    """Listens in n1; what it gives is the next word that is neither a sign of life nor the status line."""
    process = lab.popen(
        "n1",
        [sys.executable, "-c", LISTEN, NOTIFY],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"

        def word() -> str:
            while True:
                line = process.stdout.readline().strip()  # type: ignore[union-attr]  # it has a pipe
                if not line.startswith(("WATCHDOG=", "STATUS=")):
                    return line

        yield word
    finally:
        process.terminate()
        process.communicate(timeout=10)


def command(lab: Lab) -> list[str]:
    return [*lab.plan.tulled_command("n1", TULLED), "--config-file", FILE]


def restart(lab: Lab) -> None:
    """n1's tulled, with a config file and with a service manager that listens."""
    if lab.tulled_pid("n1"):
        lab.kill_tulled("n1", signal.SIGTERM)
    lab.detached(
        "n1",
        ["env", f"NOTIFY_SOCKET={NOTIFY}", *command(lab)],
        "/run/tulle-lab/logs/n1.log",
    )


def health(lab: Lab, port: int) -> str:
    url = f"http://127.0.0.1:{port}/healthz"
    return lab.run("n1", [sys.executable, "-c", ASK, url], check=False).stdout.strip()


def said(lab: Lab, event: str) -> list[str]:
    return [line for line in lab.logs("n1").splitlines() if f" {event} " in line or f'"{event}"' in line]


def test_a_reload_takes_over_what_can_change_and_names_the_rest(
    lab: Lab, eventually: Callable[..., Any]
) -> None:
    lab.write_file("n1", FILE, "healthz-port = 8471\n")
    with service_manager(lab) as word:
        restart(lab)
        lab.wait_ready()
        assert word() == "READY=1"
        assert health(lab, 8471) == "200"
        forwarder = lab.forwarder_pid("n1")

        changed = 'v = 1\nlog-format = "json"\nhealthz-port = 8472\n'
        lab.write_file("n1", FILE, changed + 'public-ip = "192.0.2.77"\nsubnet-lease-renew-margin = 30\n')
        with lab.flood("n1/p1", "n2/p1", count=2000, rate=1000.0) as flood:
            lab.kill_tulled("n1", signal.SIGHUP)
            begin = word()
            assert begin.startswith("RELOADING=1 MONOTONIC_USEC=")
            assert int(begin.rpartition("=")[2]) > 0
            assert word() == "READY=1"
            assert flood.finish().lost == 0
        (reloaded,) = said(lab, "reloaded")
        assert reloaded.startswith("{")
        assert "changed=--healthz-port, --log-format, --v" in reloaded
        (restart_needed,) = said(lab, "restart-needed")
        assert "--public-ip, --subnet-lease-renew-margin:" in restart_needed
        assert (health(lab, 8471), health(lab, 8472)) == ("", "200")
        assert lab.status("n1")["underlay"]["public"] == ["192.0.2.1"]
        assert said(lab, "api-asked")  # level 1
        assert lab.forwarder_pid("n1") == forwarder

        lab.kill_tulled("n1", signal.SIGTERM)
        assert word() == "STOPPING=1"
        restart(lab)
        lab.wait_ready()
        assert word() == "READY=1"
        assert lab.status("n1")["underlay"]["public"] == ["192.0.2.77"]
        assert lab.forwarder_pid("n1") == forwarder


def test_a_wrong_file_changes_nothing_and_a_reload_without_news_says_so(
    lab: Lab, eventually: Callable[..., Any]
) -> None:
    lab.write_file("n1", FILE, "healthz-port = 8471\n")
    with service_manager(lab) as word:
        restart(lab)
        lab.wait_ready()
        assert word() == "READY=1"
        for text, named in (
            ("healthz-port = 99999\n", "99999"),
            ("no such = thing\n", "is not TOML"),
            ('iface = ["a b"]\nno-such-flag = 1\n', "no-such-flag"),
        ):
            before = len(said(lab, "reload-failed"))
            lab.write_file("n1", FILE, text)
            lab.kill_tulled("n1", signal.SIGHUP)
            assert word().startswith("RELOADING=1")
            assert word() == "READY=1"
            failed = said(lab, "reload-failed")
            assert len(failed) == before + 1
            assert named in lab.logs("n1")[lab.logs("n1").rindex("reload-failed") :]
            assert health(lab, 8471) == "200"
        lab.write_file("n1", FILE, "healthz-port = 8471\n")
        lab.kill_tulled("n1", signal.SIGHUP)
        assert word().startswith("RELOADING=1")
        assert word() == "READY=1"
        assert said(lab, "reloaded")[-1].endswith("changed=nothing")
        assert not said(lab, "restart-needed")


def test_the_capabilities_that_the_unit_leaves_are_enough(
    lab: Lab, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    """From nothing to ready, a forwarder that dies, a restart, and down."""
    unit = (Path(__file__).parents[2] / "packaging/systemd/tulled.service").read_text()
    (bound,) = [line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet=")]
    left = [f"+{word.lower().removeprefix('cap_')}" for word in bound.partition("=")[2].split()]
    bounded = ["setpriv", "--no-new-privs", f"--bounding-set={','.join(['-all', *left])}"]
    lab.write_file("n1", FILE, "")

    def start() -> None:
        lab.detached("n1", [*bounded, *command(lab)], "/run/tulle-lab/logs/n1.log")
        lab.wait_ready()

    hands(lab).tulle("n1", "down")
    start()
    assert lab.ping("n1/p1", "n2/p1", 3) == 3
    dead = lab.forwarder_pid("n1")
    lab.kill_forwarder("n1")
    eventually(lambda: lab.forwarder_pid("n1") not in (None, dead))
    lab.wait_ready()
    assert lab.ping("n2/p1", "n1/p1", 3) == 3
    lab.kill_tulled("n1", signal.SIGTERM)
    start()
    assert lab.status("n1")["problems"] == []
    assert not said(lab, "sysctl-problem")
    hands(lab).tulle("n1", "down")
    eventually(lambda: lab.tulled_pid("n1") is None and lab.forwarder_pid("n1") is None)
    assert "tulle0" not in hands(lab).links("n1")


def test_a_health_port_that_is_not_free_leaves_the_old_one_open(
    lab: Lab, eventually: Callable[..., Any]
) -> None:
    lab.write_file("n1", FILE, "healthz-port = 8471\n")
    holder = "import socket,time; s=socket.create_server(('0.0.0.0', 8472)); print('held', flush=True); time.sleep(60)"
    with service_manager(lab) as word:
        restart(lab)
        lab.wait_ready()
        assert word() == "READY=1"
        process = lab.popen("n1", [sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            lab.write_file("n1", FILE, "healthz-port = 8472\n")
            lab.kill_tulled("n1", signal.SIGHUP)
            assert word().startswith("RELOADING=1")
            assert word() == "READY=1"
        finally:
            process.terminate()
            process.communicate(timeout=10)
        assert "--healthz-port: 0.0.0.0 port 8472 cannot be listened on" in said(lab, "reload-failed")[0]
        assert health(lab, 8471) == "200"
        lab.kill_tulled("n1", signal.SIGHUP)  # now it is free
        eventually(lambda: health(lab, 8472) == "200")


def test_a_reload_before_tulled_is_ready_does_not_call_it_ready(
    lab: Lab, eventually: Callable[..., Any]
) -> None:
    lab.write_file("n1", FILE, "v = 1\n")
    config = lab.plan.network_config()
    lab.kill_tulled("n1", signal.SIGTERM)
    with service_manager(lab) as word:
        own_store = ["--sqlite-file", "/run/own.sqlite"]
        lab.detached(
            "n1",
            ["env", f"NOTIFY_SOCKET={NOTIFY}", *command(lab), *own_store],
            "/run/tulle-lab/logs/n1.log",
        )
        eventually(lambda: said(lab, "no-config:"))
        lab.kill_tulled("n1", signal.SIGHUP)
        eventually(lambda: said(lab, "reloaded"))
        words = ["config", "set", "-", "--store", "sqlite", *own_store]
        lab.run("n1", [sys.executable, "-m", "tulle.cli.main", *words], input=json.dumps(config))
        assert word() == "READY=1"  # the first word of all
        assert lab.status("n1")["ready"]


def test_what_keeps_subnet_env_from_being_written_keeps_the_node_from_being_ready(
    lab: Lab, eventually: Callable[..., Any]
) -> None:
    lab.kill_tulled("n1", signal.SIGTERM)
    lab.write_file("n1", "/run/no-directory", "")
    lab.start_tulled("n1", ["--subnet-file", "/run/no-directory/subnet.env"])
    eventually(lambda: said(lab, "subnet-file-failed"))
    eventually(lambda: lab.status("n1")["problems"])
    status = lab.status("n1")
    assert not status["ready"]
    assert "--subnet-file" in status["not_ready_because"][0]
    assert [one["code"] for one in status["problems"]] == ["subnet-file"]
    assert not said(lab, "ready")[1:]
    lab.run("n1", ["rm", "/run/no-directory"])
    eventually(lambda: lab.status("n1")["ready"])
    assert "FLANNEL_MTU" in lab.read_file("n1", "/run/no-directory/subnet.env")
    assert lab.status("n1")["problems"] == []
