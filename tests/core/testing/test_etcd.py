"""The helper that runs a real etcd."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tulle.testing.certificates import make_certificates
from tulle.testing.etcd import FETCH, EtcdFailed, EtcdServer, find_etcd

pytestmark = pytest.mark.etcd


@pytest.fixture(autouse=True)
def _etcd_here() -> None:
    if find_etcd() is None:
        if shutil.which("apt-get") is None:
            pytest.skip(f"no etcd, and no apt to get it with: {FETCH}")
        pytest.fail(f"these tests need a real etcd: {FETCH}")


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_named_folder_is_used_or_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = find_etcd()
    assert here is not None
    monkeypatch.setenv("TULLE_ETCD_BIN", str(tmp_path))
    assert find_etcd() is None
    with pytest.raises(EtcdFailed, match=r"fetch\.sh"):
        EtcdServer()
    for binary in ("etcd", "etcdctl"):
        (tmp_path / binary).symlink_to(here / binary)
    assert find_etcd() == tmp_path


def test_it_starts_on_free_ports_and_leaves_nothing() -> None:
    with EtcdServer() as first, EtcdServer() as second:
        assert len({first.client_port, first.peer_port, second.client_port, second.peer_port}) == 4
        first.etcdctl("put", "/a", "1")
        assert second.etcdctl("get", "/a") == ""
        left = [(one.pid, one.directory) for one in (first, second)]
    for pid, directory in left:
        assert not runs(pid)
        assert not directory.exists()


def test_kill_and_start_keep_data_and_ports_and_wipe_forgets_data(tmp_path: Path) -> None:
    with EtcdServer(directory=tmp_path) as etcd:
        etcd.etcdctl("put", "/a", "1")
        endpoints, pid = etcd.endpoints, etcd.pid
        etcd.restart()
        assert etcd.pid != pid
        assert not runs(pid)
        assert etcd.endpoints == endpoints
        assert etcd.etcdctl("get", "/a", "--print-value-only") == "1\n"
        etcd.stop()
        etcd.start()
        assert etcd.etcdctl("get", "/a", "--print-value-only") == "1\n"
        etcd.wipe()
        etcd.start()
        assert etcd.etcdctl("get", "/a") == ""
    assert (tmp_path / "etcd.log").exists(), "a folder that was given is the giver's"


def test_compaction_takes_the_history() -> None:
    with EtcdServer() as etcd:
        etcd.etcdctl("put", "/a", "1")
        old = etcd.revision()
        etcd.etcdctl("put", "/a", "2")
        assert etcd.revision() == old + 1
        etcd.compact()
        with pytest.raises(EtcdFailed, match="compacted"):
            etcd.etcdctl("get", "/a", f"--rev={old}")


def test_freeze_stops_it_and_thaw_lets_it_go_on() -> None:
    with EtcdServer() as etcd:
        etcd.freeze()
        assert Path(f"/proc/{etcd.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
        etcd.thaw()
        etcd.wait_ready()
        etcd.freeze()  # and a frozen one ends with the block


def test_a_start_that_fails_shows_what_etcd_said() -> None:
    with pytest.raises(EtcdFailed, match="no-such-flag"):
        EtcdServer(options=["--no-such-flag"]).__enter__()


def test_a_port_that_is_taken_is_told_where_it_was_asked_for() -> None:
    with EtcdServer() as etcd, pytest.raises(EtcdFailed, match="address already in use"):
        EtcdServer(client_port=etcd.client_port, peer_port=etcd.peer_port).__enter__()


def test_tls_lets_in_who_shows_a_certificate(tmp_path: Path) -> None:
    with EtcdServer(certificates=make_certificates(tmp_path)) as etcd:
        assert etcd.endpoint.startswith("https://")
        etcd.etcdctl("put", "/a", "1")


def test_users_have_their_own_prefix() -> None:
    with EtcdServer() as etcd:
        etcd.enable_auth("root-password", [("ann", "secret", "/ann/")])
        etcd.etcdctl("put", "/elsewhere", "as root")
        etcd.etcdctl("--user=ann:secret", "put", "/ann/a", "1")
        with pytest.raises(EtcdFailed, match="permission denied"):
            etcd.etcdctl("--user=ann:secret", "put", "/bob/a", "1")


def test_it_ends_with_its_parent_even_when_frozen_and_the_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from tulle.testing.etcd import EtcdServer\n"
        "etcd = EtcdServer(directory=pathlib.Path(sys.argv[1]))\n"
        "etcd.start(); etcd.freeze(); print(etcd.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert runs(pid)
        os.kill(parent.pid, signal.SIGKILL)
    for _ in range(200):
        if not runs(pid):
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("etcd lives on without its parent")
