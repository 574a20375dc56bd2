"""A child that drops its rights really has none: looked at from inside and from /proc."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DROP = """
import json, os, resource, sys
from tulle.worker import sandbox

sandbox.set_process_name("tulle-test-of-the-sandbox")
done = sandbox.drop_rights()

def refused(action):
    try:
        action()
    except OSError as error:
        return error.strerror
    return "allowed"

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "done": done,
    "status": {key: value.split() for key, value in status.items()},
    "owner_of_proc": os.stat("/proc/self/environ").st_uid,
    "open_secret": refused(lambda: open(sys.argv[1]).close()),
    "become_root": refused(lambda: os.setuid(0)),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
}))
"""
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NO_CAPABILITIES = "0" * 16


def dropped(secret: Path, *wrapper: str) -> dict[str, Any]:
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", DROP, str(secret)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("key")
    file.chmod(0o600)
    return file


@pytest.mark.skipif(os.getuid() != 0, reason="only root has rights to give up")
def test_root_becomes_an_unprivileged_user_with_no_way_back(secret: Path) -> None:
    found = dropped(secret)
    names = [entry.pw_name for entry in pwd.getpwall()]
    user = pwd.getpwnam("tulle" if "tulle" in names else "nobody")
    status = found["status"]
    assert status["Uid"] == [str(user.pw_uid)] * 4
    assert status["Gid"] == [str(user.pw_gid)] * 4
    assert status["Groups"] == []
    assert {name: status[name] for name in CAPABILITY_SETS} == {
        name: [NO_CAPABILITIES] for name in CAPABILITY_SETS
    }
    assert status["NoNewPrivs"] == ["1"]
    assert found["owner_of_proc"] == 0  # not dumpable: its /proc entries belong to root (proc(5))
    assert found["open_secret"] == "Permission denied"
    assert found["become_root"] == "Operation not permitted"
    assert found["core"] == [0, 0]
    assert found["done"] == [f"user {user.pw_name}", "no capabilities, no new privileges"]
    assert status["Name"] == ["tulle-test-of-t"]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1)")
def test_in_a_user_namespace_of_one_user_all_but_the_user_is_dropped(secret: Path) -> None:
    unshare = ("unshare", "--user", "--map-root-user")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel lets us make no user namespace")
    found = dropped(secret, *unshare)
    status = found["status"]
    assert status["Uid"] == ["0"] * 4
    assert {name: status[name] for name in CAPABILITY_SETS} == {
        name: [NO_CAPABILITIES] for name in CAPABILITY_SETS
    }
    assert status["NoNewPrivs"] == ["1"]
    assert found["done"] == [
        "user kept: this user namespace maps no other",
        "no capabilities, no new privileges",
    ]


def test_who_has_no_rights_loses_the_rest_without_complaint(secret: Path) -> None:
    """The second time there is nothing left to drop; a program that may be started twice must not fail."""
    again = DROP.replace("done = sandbox", "sandbox.drop_rights(); done = sandbox")
    done = subprocess.run([sys.executable, "-c", again, str(secret)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["done"] == ["no capabilities, no new privileges"]
