"""tulled as a program: what is wrong is one clear message and status 2 within seconds, and nothing is changed."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tulle import __version__
from tulle.contracts.store import Put
from tulle.node.rundir import RunDir
from tulle_sqlite.store import open_sqlite

WAIT_S = 30.0
UNSHARE = ["unshare", "--net", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
CONFIG_KEY = "/coreos.com/network/config"

needs_namespace = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs a network namespace",
)


def tulled(
    directory: Path, *words: str, env: dict[str, str] | None = None, wrapper: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """tulled with all its files in that directory."""
    places = [f"--run-dir={directory / 'run'}", f"--state-dir={directory / 'state'}"]
    places.append(f"--subnet-file={directory / 'subnet.env'}")
    return subprocess.run(
        [*(wrapper or []), sys.executable, "-m", "tulle.node.main", *places, *words],
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | (env or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--no-such-flag=1"], "--no-such-flag"),
        (["--ifcae=eth0"], "--iface"),
        (["--v=much"], "--v"),
        (["--v=-1"], "--v"),
        (["--public-ip=fd00::1"], "--public-ip"),
        (["--public-ip=192.0.2"], "--public-ip"),
        (["--public-ipv6=192.0.2.1"], "--public-ipv6"),
        (["--public-ip=0.0.0.0"], "--public-ip"),
        (["--iface=eth 0"], "--iface"),
        (["--node-name=a/b"], "--node-name"),
        (["--store=carrier-pigeon"], "--store"),
        (["--engine=steam"], "--engine"),
        (["--etcd-prefix=/"], "--etcd-prefix"),
        (["--run-dir="], "--run-dir"),
        (["--subnet-lease-renew-margin=0"], "--subnet-lease-renew-margin"),
        (["--etcd-endpoints=ftp://192.0.2.1:2379"], "ftp"),
        (["--etcd-endpoints=https://192.0.2.1:2379", "--etcd-certfile=/nowhere/c"], "etcd-"),
        (["--etcd-endpoints=http://192.0.2.1:2379", "--etcd-password-file=/nowhere/p"], "etcd-password-file"),
        (["--public-ip"], "--public-ip"),
        (["10.5.0.0/16"], "10.5.0.0/16"),
    ],
)
def test_a_broken_flag_is_status_2_named_and_changes_nothing(
    tmp_path: Path, words: list[str], named: str
) -> None:
    done = tulled(tmp_path, *words)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 1000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["TULLED_V", "FLANNELD_V"])
def test_a_broken_setting_of_the_environment_is_named_as_the_user_wrote_it(tmp_path: Path, name: str) -> None:
    done = tulled(tmp_path, env={name: "much"})
    assert done.returncode == 2
    assert name in done.stderr


def test_all_broken_flags_are_named_at_once(tmp_path: Path) -> None:
    done = tulled(tmp_path, "--public-ip=x", "--iface=a b", "--node-name=?")
    assert all(flag in done.stderr for flag in ("--public-ip", "--iface", "--node-name"))


def test_version_and_help_are_printed(tmp_path: Path) -> None:
    assert tulled(tmp_path, "--version").stdout == f"{__version__}\n"
    said = tulled(tmp_path, "--help")
    assert said.returncode == 0
    assert "etcd-endpoints" in said.stdout + said.stderr
    assert list(tmp_path.iterdir()) == []


BROKEN_CONFIGS = {
    "empty": (b"", "not JSON"),
    "not JSON": (b"network: 10.5.0.0/16", "not JSON"),
    "binary": (b"\xff\xfe\x00", "not JSON"),
    "no object": (b"[]", "object"),
    "no network": (b"{}", "Network"),
    "no network at all": (b'{"Network": "ten"}', "Network"),
    "network too small": (b'{"Network": "10.5.0.0/29"}', "Network"),
    "subnets too large": (b'{"Network": "10.5.0.0/16", "SubnetLen": 17}', "SubnetLen"),
    "first subnet outside": (b'{"Network": "10.5.0.0/16", "SubnetMin": "10.6.0.0"}', "SubnetMin"),
    "IPv6 without network": (b'{"Network": "10.5.0.0/16", "EnableIPv6": true}', "IPv6Network"),
    "unknown backend": (b'{"Network": "10.5.0.0/16", "Backend": {"Type": "pigeon"}}', "Backend.Type"),
    "wrong port": (b'{"Network": "10.5.0.0/16", "Backend": {"Type": "udp", "Port": 0}}', "Port: 0"),
}


async def written(file: Path, text: bytes) -> None:
    store = open_sqlite({"sqlite-file": str(file)})
    await store.transact([], [Put(CONFIG_KEY, text)])
    await store.close()


async def keys_in(file: Path) -> list[tuple[str, bytes]]:
    store = open_sqlite({"sqlite-file": str(file)})
    found = [(kv.key, kv.value) for kv in (await store.list("")).items]
    await store.close()
    return found


@needs_namespace
@pytest.mark.parametrize("name", BROKEN_CONFIGS)
def test_a_broken_network_config_in_the_store_is_status_2_and_changes_nothing(
    tmp_path: Path, name: str
) -> None:
    text, named = BROKEN_CONFIGS[name]
    file = tmp_path / "store.sqlite"
    asyncio.run(written(file, text))
    script = '"$@"; status=$?; ip -o link; ip route; ip -6 route; exit $status'
    done = tulled(
        tmp_path, "--store=sqlite", f"--sqlite-file={file}", wrapper=[*UNSHARE, "sh", "-c", script, "sh"]
    )
    assert done.returncode == 2, done.stderr
    assert "config-wrong" in done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert [line.split(":")[1].strip() for line in done.stdout.splitlines()] == ["lo"]
    assert not (tmp_path / "subnet.env").exists()
    assert not (tmp_path / "run").exists()
    assert asyncio.run(keys_in(file)) == [(CONFIG_KEY, text)]


@needs_namespace
def test_two_of_one_run_directory_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    held = RunDir(tmp_path / "run")
    held.take()
    done = tulled(tmp_path, wrapper=UNSHARE)
    assert done.returncode == 1
    assert f"tulled runs here already (pid {os.getpid()})" in done.stderr
    assert "--run-dir" in done.stderr


@needs_namespace
@pytest.mark.parametrize("place", ["a file/store.sqlite", "a file"])
def test_a_store_file_that_cannot_be_used_is_status_1_at_once(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").write_text("this is no database, and it is long enough to be read as one" * 20)
    done = tulled(tmp_path, "--store=sqlite", f"--sqlite-file={tmp_path / place}", wrapper=UNSHARE)
    assert done.returncode == 1, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "cannot-go-on" in line]
    assert str(tmp_path / place) in said
    assert "--sqlite-file" in said
    assert "waiting" not in done.stderr


@needs_namespace
def test_a_store_file_in_a_missing_directory_is_made_and_tulled_waits_for_its_config(tmp_path: Path) -> None:
    file = tmp_path / "missing/too/store.sqlite"
    limited = [*UNSHARE, "timeout", "--signal=TERM", "3"]
    done = tulled(tmp_path, "--store=sqlite", f"--sqlite-file={file}", wrapper=limited)
    assert "no-config" in done.stderr
    assert "tulle init" in done.stderr
    assert file.exists()
    assert "ended nothing of tulle's is set up here" in done.stderr
    assert not (tmp_path / "run").exists()


@needs_namespace
def test_a_damaged_id_is_status_1_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/id").write_text("not an id")
    done = tulled(tmp_path, wrapper=UNSHARE)
    assert done.returncode == 1
    assert "is not an id" in done.stderr
    assert (tmp_path / "state/id").read_text() == "not an id"


@needs_namespace
def test_flags_of_a_store_that_is_not_in_use_are_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/id").write_text("not an id")  # so that it ends at once
    env = {"FLANNELD_ETCD_PASSWORD": "hunter2", "TULLED_ETCD_PASSWORD": "hunter2"}
    words = ["--store=sqlite", "--etcd-endpoints=http://192.0.2.1:2379"]
    done = tulled(tmp_path, *words, env=env, wrapper=UNSHARE)
    (said,) = [line for line in done.stderr.splitlines() if "flag-unused" in line]
    assert (
        "--etcd-endpoints (flag), --etcd-password (environment TULLED_ETCD_PASSWORD): of store etcd" in said
    )
    assert "sqlite is in use: --store=sqlite (flag); to use it give --store=etcd" in said
    assert "hunter2" not in done.stderr
    done = tulled(tmp_path, "--etcd-cafile=/nowhere/ca", wrapper=UNSHARE)
    (said,) = [line for line in done.stderr.splitlines() if "flag-unused" in line]
    assert "sqlite is in use: nothing chose another" in said
    done = tulled(tmp_path, f"--sqlite-file={tmp_path / 'x'}", wrapper=UNSHARE)
    assert "flag-unused" not in done.stderr


@needs_namespace
def test_a_tulled_that_crashes_leaves_no_core_with_its_secrets(tmp_path: Path) -> None:
    """As the kernel tells its parent; a program that does not care is the measure of what this machine writes."""
    careless = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"]
    if not dumps_core(tmp_path, careless):
        pytest.skip("this machine writes no cores")
    places = [f"--run-dir={tmp_path / 'run'}", f"--state-dir={tmp_path / 'state'}"]
    words = [*places, f"--subnet-file={tmp_path / 'env'}", "--store=sqlite"]
    assert not dumps_core(tmp_path, [*UNSHARE, sys.executable, "-m", "tulle.node.main", *words], "no-config")


def dumps_core(directory: Path, command: list[str], crash_at: str = "") -> bool:
    """Run it there until it says that word, then let it crash."""
    with subprocess.Popen(
        command,
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=allow_cores,
    ) as process:
        assert process.stderr is not None
        if crash_at:
            assert any(crash_at in line for line in process.stderr), "it ended before"
            process.send_signal(signal.SIGABRT)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = 0
    for one in directory.glob("core*"):
        one.unlink()
    assert os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status)


def allow_cores() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


FAULTY = """
from tulle.contracts.specs import SubnetManagerSpec
from tulle.contracts.subnet import DuplicateNode
from tulle.config.errors import ConfigError, ConfigProblem
from tulle.contracts.store import Denied
from tulle.hookspecs import hookimpl

@hookimpl
def tulle_subnet_managers():
    return [SubnetManagerSpec(name="theirs", factory="their_manager:Manager")]

class Manager:
    location = "nowhere"

    def __init__(self, settings):
        pass

    async def run(self):
        raise ERROR

    network_config = acquire = update = peers = health = release = close = run

    def status(self):
        return {}
"""


@needs_namespace
@pytest.mark.parametrize(
    ("error", "status", "said", "traceback"),
    [
        ("DuplicateNode('two of us')", 1, "cannot-go-on two of us", False),
        ("Denied('they refuse')", 1, "cannot-go-on they refuse", False),
        ("ConfigError([ConfigProblem('a', None, 'b', 'c')], 'd')", 2, "config-wrong 1 problem in d", False),
        (
            "KeyError('x')",
            1,
            "cannot-go-on --store theirs: its network_config failed (KeyError: 'x')|"
            "cannot-go-on --store theirs: its run failed (KeyError: 'x')",
            True,
        ),
    ],
)
def test_a_plugins_subnet_manager_ends_tulled_with_its_last_words(
    tmp_path: Path, error: str, status: int, said: str, traceback: bool
) -> None:
    site = tmp_path / "site"
    info = site / "their_manager-1.dist-info"
    info.mkdir(parents=True)
    (site / "their_manager.py").write_text(FAULTY.replace("ERROR", error))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_manager\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tulle]\ntheirs = their_manager\n")
    places = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    done = tulled(tmp_path, "--store=theirs", "--config-file=", env=places, wrapper=UNSHARE)
    assert done.returncode == status, done.stderr
    assert any(one in done.stderr for one in said.split("|"))
    assert ("Traceback" in done.stderr) == traceback
    assert not (tmp_path / "subnet.env").exists()
