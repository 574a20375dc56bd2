"""A third party's subnet manager takes the place of store and leases: `filemanager.py`, installed as a distribution of
its own, in tulleds that know nothing of it but its name."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.filemanager import FileManager
from tulle.contracts.subnet import SubnetManager
from tulle.lab import Lab, LabError
from tulle.lab.daemons import TULLED
from tulle.lab.registry import Registry
from tulle.testing.subnet_contract import SubnetManagerContract

SOURCE = Path(__file__).with_name("filemanager.py")
TULLE = (sys.executable, "-m", "tulle.cli.main")
CONFIG = {"Network": "10.42.0.0/16", "SubnetLen": 24, "Backend": {"Type": "udp"}}

group = pytest.mark.xdist_group("lab-subnet-manager")


class TestFileManager(SubnetManagerContract):
    """It keeps the contract; what the labs show is then tulled's doing."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.file = tmp_path / "cluster.json"

    async def write_config(self, text: str) -> None:
        self.file.write_text(json.dumps({"config": json.loads(text)}))

    @asynccontextmanager
    async def manager(self, node: str) -> AsyncIterator[SubnetManager]:
        yield FileManager({"cluster-file": str(self.file)})


class World:
    """A lab of two nodes whose truth is a file."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        site = folder / "site"
        info = site / "filemanager-1.0.dist-info"
        info.mkdir(parents=True)
        shutil.copy(SOURCE, site / "filemanager.py")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: filemanager\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[tulle]\nfilemanager = filemanager\n")
        self.file = folder / "cluster.json"
        self.file.write_text(json.dumps({"config": CONFIG}))
        self.env = ("env", f"PYTHONPATH={site}")
        self.flags = ("--store=filemanager", f"--cluster-file={self.file}")
        self.lab = Lab(
            nodes=2, pods=1, tulled=(*self.env, *TULLED), tulled_args=self.flags, registry=registry
        )

    @property
    def nodes(self) -> dict[str, Any]:
        return dict(json.loads(self.file.read_text()).get("nodes", {}))

    def tulle(self, node: str, *words: str) -> Any:
        return self.lab.run(node, [*self.env, *TULLE, *words], check=False)


@contextmanager
def living(folder: Path, registry: Registry) -> Iterator[World]:
    world = World(folder, registry)
    with world.lab:
        yield world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Iterator[World]:
    """Not to be disturbed."""
    with living(tmp_path_factory.mktemp("world"), registry) as world:
        yield world


@pytest.fixture
def own_world(tmp_path: Path, registry: Registry) -> Iterator[World]:
    with living(tmp_path, registry) as world:
        yield world


@pytest.mark.lab
@group
def test_pods_of_different_nodes_talk(world: World) -> None:
    assert set(world.lab.ping_all(3).values()) == {3}


@pytest.mark.lab
@group
def test_each_node_has_the_subnet_that_the_file_gives_it_and_says_so(world: World) -> None:
    for node in ("n1", "n2"):
        status = world.lab.status(node)
        assert status["subnets"] == world.nodes[node]["subnets"]
        store = status["store"]
        assert (store["name"], store["location"], store["prefix"]) == ("filemanager", str(world.file), "")
        assert (store["state"], store["server_version"]) == ("connected", "one file")
        assert store["detail"] == {"kept": status["subnets"]}
        assert (store["mirrors"], store["lease"], status["problems"]) == ({}, None, [])
        assert f"filemanager at {world.file}: connected" in world.tulle(node, "status").stdout
    assert f"store=filemanager at {world.file} prefix=none" in world.lab.logs("n1")


@pytest.mark.lab
@group
@pytest.mark.parametrize(
    "words",
    [("leases",), ("leases", "release", "n1", "--yes"), ("init",), ("config", "show"), ("config", "check")],
)
@pytest.mark.parametrize("named", [True, False], ids=["by flags", "of the running tulled"])
def test_commands_that_work_on_a_store_say_that_there_is_none(
    world: World, words: tuple[str, ...], named: bool
) -> None:
    before = world.nodes.keys()
    done = world.tulle("n1", *words, *(world.flags if named else ()))
    assert done.returncode == 1, done.stderr
    assert "are kept by the subnet manager filemanager" in done.stderr
    assert "tulle down --release" in done.stderr
    assert "Traceback" not in done.stderr
    assert world.nodes.keys() == before


@pytest.mark.lab
@group
def test_its_flags_are_tulleds_and_choose_it(world: World) -> None:
    tulled = [*world.env, *TULLED, "--config-file="]
    assert "--cluster-file" in world.lab.run("n1", [*tulled, "--help"]).stdout
    checked = world.lab.run("n1", [*tulled, world.flags[1], "--check=json"]).stdout
    store = json.loads(checked)["settings"]["store"]
    assert (store["value"], store["source"]) == ("filemanager", "chosen by --cluster-file")
    lacking = world.lab.run("n1", [*tulled, world.flags[0]], check=False)
    assert lacking.returncode == 2
    assert "--store filemanager: name the cluster's file with --cluster-file" in lacking.stderr


@pytest.mark.lab
@group
def test_doctor_takes_tulleds_word_for_it(world: World) -> None:
    done = world.tulle("n1", "doctor", "--check", "store", "--check", "leases", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["check"]: one["severity"] for one in json.loads(done.stdout)["findings"]}
    assert found == {"store": "ok", "leases": "skipped"}


@pytest.mark.lab
@group
def test_a_second_machine_of_a_name_ends_with_the_managers_own_words(world: World) -> None:
    places = ("--run-dir=/run/second", "--state-dir=/run/second-state", "--subnet-file=/run/second.env")
    command = [*world.env, *TULLED, "--node-name=n1", "--config-file=", "--iface=eth0", *world.flags, *places]
    done = world.lab.run("n2", command, check=False)
    assert done.returncode == 1
    assert f"cannot-go-on a node 'n1' is alive in {world.file}: give this one another name" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.lab
@group
def test_it_comes_back_with_its_subnet_and_down_gives_it_back(
    own_world: World, eventually: Callable[..., Any]
) -> None:
    lab, before = own_world.lab, own_world.nodes["n2"]["subnets"]
    lab.kill_tulled("n2", signal.SIGTERM)
    assert own_world.nodes["n2"]["alive_until"] == 0.0  # the name is given back
    assert lab.ping("n1/p1", "n2/p1", 3) == 3
    lab.start_tulled("n2")
    lab.wait_ready()
    assert own_world.nodes["n2"]["subnets"] == before
    assert lab.ping("n1/p1", "n2/p1", 3) == 3

    done = own_world.tulle("n2", "down", "--release")
    assert done.returncode == 0, done.stderr
    assert "lease of n2: released" in done.stdout
    assert list(own_world.nodes) == ["n1"]
    eventually(lambda: lab.status("n1")["peers"] == [])
    again = own_world.tulle("n2", "down", "--release", "--node-name=n2", *own_world.flags)
    assert again.returncode == 0, again.stderr
    assert "lease of n2: not released, since no tulled runs here that could" in again.stdout


@pytest.mark.lab
@group
def test_what_it_loses_and_what_is_away_is_told(own_world: World, eventually: Callable[..., Any]) -> None:
    lab, file = own_world.lab, own_world.file
    lab.kill_tulled("n2", signal.SIGTERM)
    with FileManager({"cluster-file": str(file)}).edit() as cluster:
        cluster.nodes["n1"].id = "another machine"
    eventually(lambda: lab.tulled_pid("n1") is None)
    lost = f"cannot-go-on {file} no longer gives a subnet to 'n1': start tulled again"
    assert lost in lab.logs("n1")
    assert "Traceback" not in lab.logs("n1")

    file.unlink()
    lab.start_tulled("n2")
    eventually(lambda: "store-away" in [one["code"] for one in _problems(lab, "n2")])
    (problem,) = _problems(lab, "n2")
    assert problem["subject"] == str(file)
    assert f"{file} is not there" in problem["message"]


def _problems(lab: Lab, node: str) -> list[Any]:
    """Empty while it does not answer yet."""
    try:
        return list(lab.status(node)["problems"])
    except LabError:
        return []
