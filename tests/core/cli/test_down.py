"""`tulle down` as a real process in a network namespace of its own: it would clear this machine else."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tulle.cli.down import with_vanished
from tulle.contracts.store import Put
from tulle.lease.codec import encode_member
from tulle.lease.model import Member
from tulle.node.rundir import Record
from tulle_sqlite.store import open_sqlite

PREFIX = "/coreos.com/network"
DOWN = f"{sys.executable} -m tulle.cli.main down"
UNSHARE = ["unshare", "--net", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]

pytestmark = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs a network namespace",
)


def in_namespace(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = f"--run-dir={directory / 'run'} --state-dir={directory / 'state'} --config-file="
    nobody = f"{sys.executable} -c '{AS_NOBODY}' down {words}"
    return subprocess.run(
        [*UNSHARE, "sh", "-ec", script.replace("DOWN", f"{DOWN} {words}").replace("AS_NOBODY", nobody)],
        capture_output=True,
        text=True,
        check=False,
    )


def record(directory: Path, subnet_text: str) -> None:
    (directory / "run").mkdir()
    (directory / "run/node.json").write_bytes(
        msgspec.json.encode(
            Record(
                node="n1",
                node_id="0" * 32,
                state_dir=str(directory / "state"),
                store="sqlite",
                store_prefix="/coreos.com/network",
                store_settings={"sqlite-file": str(directory / "state/store.sqlite")},
                subnet_file=str(directory / "subnet.env"),
                subnet_file_text=subnet_text,
            )
        )
    )


def test_where_there_is_nothing_it_says_so(tmp_path: Path) -> None:
    done = in_namespace("DOWN", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"there was nothing of tulle's here (run directory {tmp_path / 'run'})\n"
    assert list(tmp_path.iterdir()) == []


def test_what_is_ours_goes_and_what_is_others_stays(tmp_path: Path) -> None:
    record(tmp_path, "FLANNEL_MTU=1472\n")
    (tmp_path / "subnet.env").write_text("FLANNEL_MTU=1472\n")
    script = """
    ip link add tulle0 type veth peer name other0
    ip link set tulle0 alias tulle
    ip link add theirs0 type veth peer name theirs1
    ip link set theirs0 up
    ip route add unreachable 10.42.0.0/16 metric 1000000 proto 116
    ip route add unreachable 10.99.0.0/16 metric 7
    DOWN
    echo ---
    ip -o link; ip route
    DOWN
    """
    done = in_namespace(script, tmp_path)
    assert done.returncode == 0, done.stderr
    removed, _, left = done.stdout.partition("---\n")
    assert "tulle0" in removed
    assert "10.42.0.0/16" in removed
    assert f"{tmp_path / 'subnet.env'}: removed" in removed
    assert "tulle0" not in left
    assert "10.42.0.0/16" not in left
    assert "theirs0" in left
    assert "10.99.0.0/16" in left
    assert "there was nothing of tulle's here" in left
    assert list(tmp_path.iterdir()) == []


def test_a_subnet_file_that_another_wrote_since_stays(tmp_path: Path) -> None:
    record(tmp_path, "FLANNEL_MTU=1472\n")
    (tmp_path / "subnet.env").write_text("FLANNEL_MTU=1450\n")
    assert in_namespace("DOWN", tmp_path).returncode == 0
    assert (tmp_path / "subnet.env").read_text() == "FLANNEL_MTU=1450\n"


ID = "0" * 32


def with_id(directory: Path) -> None:
    (directory / "state").mkdir()
    (directory / "state/id").write_text(f"{ID}\n")


def test_releasing_where_there_is_no_store_says_so_and_makes_none(tmp_path: Path) -> None:
    record(tmp_path, "")
    with_id(tmp_path)
    done = in_namespace("DOWN --release", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lease of n1: there was none: there is no store file" in done.stdout
    assert [one.name for one in (tmp_path / "state").iterdir()] == ["id"]


def test_releasing_once_more_says_that_the_store_is_not_known_any_more_and_how_to_name_it(
    tmp_path: Path,
) -> None:
    record(tmp_path, "")
    with_id(tmp_path)
    script = "DOWN --release >/dev/null; DOWN --release --node-name=n1"
    done = in_namespace(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lease of n1: not released: it is not known which store holds it" in done.stdout
    assert "tulle down --release --etcd-endpoints=..." in done.stdout
    assert "there was none" not in done.stdout
    named = in_namespace(f"{script} --sqlite-file={tmp_path / 'other.sqlite'}", tmp_path)
    assert "there was none: there is no store file" in named.stdout  # it was asked for by name


def test_releasing_without_the_id_that_proves_it_ours_makes_none(tmp_path: Path) -> None:
    done = in_namespace("DOWN --release --node-name=n1", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"lease of n1: not released, since {tmp_path / 'state/id'}" in done.stdout
    assert "tulle leases release n1" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "expected"), [("n1", "released"), ("n2", "there was none of this machine")])
def test_after_the_record_is_gone_the_name_and_the_id_are_enough(
    tmp_path: Path, name: str, expected: str
) -> None:
    with_id(tmp_path)
    fill(tmp_path / "state/store.sqlite")
    done = in_namespace(f"DOWN --release --node-name={name}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"lease of {name}: {expected}" in done.stdout
    assert leases(tmp_path / "state/store.sqlite") == ([SUBNET] if name == "n2" else [])


SUBNET = f"{PREFIX}/subnets/10.42.7.0-24"


def fill(file: Path) -> None:
    async def run() -> None:
        store = open_sqlite({"sqlite-file": str(file)})
        lease = await store.grant(86_400)
        member = Member("n1", ID, "boot", ("10.42.7.0-24",), ())
        value = b'{"PublicIP":"192.0.2.7","PublicIPv6":null}'
        puts = [Put(SUBNET, value, lease), Put(f"{PREFIX}/members/n1", encode_member(member), lease)]
        await store.transact([], puts)
        await store.close()

    asyncio.run(run())


def leases(file: Path) -> list[str]:
    async def run() -> list[str]:
        store = open_sqlite({"sqlite-file": str(file)})
        try:
            return [kv.key for kv in (await store.list(f"{PREFIX}/subnets/")).items]
        finally:
            await store.close()

    return asyncio.run(run())


def test_what_went_by_itself_is_named_once() -> None:
    before = ["route 10.42.0.0/16 dev tulle0", "route unreachable 10.42.0.0/16", "link tulle0", "link other"]
    lines = ["route unreachable 10.42.0.0/16: removed", "forwarder 7: stopped"]
    assert with_vanished(lines, before, ["link other"]) == [
        "route 10.42.0.0/16 dev tulle0: removed",
        "link tulle0: removed",
        "route unreachable 10.42.0.0/16: removed",
        "forwarder 7: stopped",
    ]
    assert with_vanished([], [], []) == []


def test_for_programs_the_lines_are_a_list(tmp_path: Path) -> None:
    done = in_namespace(
        "ip link add tulle0 type veth; ip link set tulle0 alias tulle; DOWN -o json", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["removed"] == ["link tulle0: removed"]


AS_NOBODY = "import os, sys; os.geteuid = lambda: 65534; from tulle.cli.main import main; main(sys.argv[1:])"


def test_without_rights_it_says_so_before_it_touches_anything(tmp_path: Path) -> None:
    """The user is one in name only: another might not be able to read this checkout."""
    make = "ip link add tulle0 type veth; ip link set tulle0 alias tulle"
    done = in_namespace(f"{make}; AS_NOBODY || ip -o link", tmp_path)
    assert "only root may take away" in done.stderr
    assert "tulle0" in done.stdout
