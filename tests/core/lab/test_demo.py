"""The demo: it shows what is true, and fails where it is not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tulle.lab import Lab, LabError, demo
from tulle.lab.plan import Plan
from tulle.lab.registry import Registry, start_time

pytestmark = pytest.mark.lab

DEMO = [sys.executable, "-m", "tulle.cli.main", "lab", "demo"]
DEMO_S = 60.0

NOBODY = 65534
AS_NOBODY = (
    "mount -t tmpfs tmpfs /dev/net && mknod -m 0666 /dev/net/tun c 10 200 && cd / && "
    f'exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "$@"'
)


def readable_by_nobody(*paths: Path) -> bool:
    """Whether any user can reach and read these."""
    folders = {parent for path in paths for parent in path.resolve().parents}
    return all(folder.stat().st_mode & 0o001 for folder in folders)


def check(output: str) -> None:
    assert "30 of 30 pairs answer 3 of 3" in output
    assert "unchanged, " in output
    assert "20000 sent, 20000 received, 0 lost" in output
    assert "Try next:" in output


def test_the_demo_holds_what_it_says_in_less_than_a_minute(registry: Registry) -> None:
    said: list[str] = []
    demo.run(Lab(registry=registry), said.append, said.append)
    check("\n".join(said))
    assert not registry.directory.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests have run as an unprivileged user already")
@pytest.mark.skipif(
    not readable_by_nobody(Path(sys.executable), Path(sys.prefix, "lib"), Path(demo.__file__)),
    reason="another user cannot read the interpreter or the checkout",
)
def test_the_demo_works_as_an_unprivileged_user() -> None:
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", AS_NOBODY, "sh", *DEMO]
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEMO_S, env=environment)
    assert done.stderr == ""
    assert done.returncode == 0
    check(done.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user to whom /dev/net/tun is closed")
@pytest.mark.skipif(not readable_by_nobody(Path(sys.executable), Path(demo.__file__)), reason="not readable")
def test_a_user_who_may_not_open_the_tun_driver_is_told_the_command_that_would_allow_it() -> None:
    closed = AS_NOBODY.replace("0666", "0600")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", closed, "sh", *DEMO]
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEMO_S, env=environment)
    assert done.returncode == 1
    assert "sudo chmod 0666 /dev/net/tun" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_demo_that_is_interrupted_leaves_nothing(registry: Registry) -> None:
    registry.directory.parent.mkdir(exist_ok=True)
    environment = os.environ | {"XDG_RUNTIME_DIR": str(registry.directory.parent)}
    process = subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "up after" in line:
            break
    (lab,) = Registry(registry.directory.parent / "tulle-lab").living().values()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert start_time(lab.pid) is None
    assert not (registry.directory.parent / "tulle-lab").exists()


def test_the_demo_of_a_backend_that_the_kernel_carries_speaks_of_no_forwarder(registry: Registry) -> None:
    said: list[str] = []
    demo.run(Lab(backend="host-gw", registry=registry), said.append, said.append)
    shown = "\n".join(said)
    check(shown)
    assert "the backend is host-gw; packets are carried by the kernel\n" in shown
    assert "killed (-9); the kernel goes on:" in shown
    assert "forwarder" not in shown


def test_pods_that_do_not_reach_each_other_end_the_demo_with_their_names(registry: Registry) -> None:
    with (
        Lab(nodes=2, pods=1, backend="none", registry=registry) as lab,
        pytest.raises(LabError, match="not all answered: n1/p1 to n2/p1, n2/p1 to n1/p1"),
    ):
        demo.ping_everybody(lab, print, print)


def test_what_to_try_next_is_the_lab_that_was_shown() -> None:
    options = {"Mode": "userspace", "Port": 9000, "GBP": False, "Note": "two words"}
    plan = Plan(name="x", backend="vxlan", backend_options=options, family="dual")
    assert demo.flags(plan) == (
        " --backend vxlan --family dual --backend-option Mode=userspace --backend-option Port=9000"
        " --backend-option GBP=false --backend-option 'Note=two words'"
    )
    assert demo.flags(Plan(name="y")) == ""


def test_our_programs_are_called_by_name_where_the_path_leads_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(ours))
    assert demo.called("tulle") == "tulle"
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.chdir(ours.parent)
    assert shutil.which("tulle") is None
    assert demo.called("tulle") == f"./{ours.name}/tulle"
    monkeypatch.chdir("/")
    assert demo.called("tulle") == str(ours / "tulle")
