"""Whole labs: real tulleds, real packets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tulle.lab import Lab, LabError
from tulle.lab.launch import end
from tulle.lab.plan import LabFamily
from tulle.lab.registry import Registry, start_time
from tulle.testing.etcd import find_etcd

pytestmark = pytest.mark.lab

needs_etcd = pytest.mark.skipif(find_etcd() is None, reason="there is no etcd: run packaging/etcd/fetch.sh")


def host_view() -> tuple[list[str], str]:
    """What a lab must not change outside."""
    return sorted(os.listdir("/sys/class/net")), Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("family", ["4", "6", "dual"])
@pytest.mark.parametrize("store", ["sqlite", pytest.param("etcd", marks=[pytest.mark.etcd, needs_etcd])])
def test_every_pod_reaches_every_other_and_data_arrives_unchanged(
    registry: Registry, family: LabFamily, store: str
) -> None:
    with Lab(family=family, store=store, registry=registry) as lab:
        for version in lab.plan.families:
            answers = lab.ping_all(2, family=version)
            assert len(answers) == 30
            assert set(answers.values()) == {2}
            assert lab.transfer("n1/p1", "n3/p2", 16 << 20, family=version).unchanged


def test_no_datagram_is_lost_when_tulled_is_killed_and_it_comes_back_with_its_subnet(
    registry: Registry,
) -> None:
    with Lab(nodes=2, pods=1, registry=registry) as lab:
        forwarder = lab.forwarder_pid("n1")
        with lab.flood("n1/p1", "n2/p1", count=20000, rate=5000) as flood:
            time.sleep(0.5)
            lab.kill_tulled("n1")
            lab.kill_tulled("n2")
            result = flood.finish()
        assert (result.sent, result.lost, result.duplicates) == (20000, 0, 0)
        for node in ("n1", "n2"):
            lab.start_tulled(node)
        lab.wait_ready()
        assert lab.wait_subnets() == lab.nets
        assert lab.forwarder_pid("n1") == forwarder
        assert lab.ping("n1/p1", "n2/p1", 3) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_when_the_first_process_ends_no_process_no_mount_and_no_link_is_left(
    registry: Registry, number: signal.Signals
) -> None:
    before = host_view()
    lab = Lab(nodes=2, pods=1, registry=registry)
    lab.up()
    pids = [lab.init.pid, *(resident.pid for resident in lab.residents())]
    assert len(pids) >= 5
    end(lab.init, number)
    assert [start_time(pid) for pid in pids] == [None] * len(pids)
    assert host_view() == before
    with pytest.raises(LabError, match="not up"):
        lab.run("n1", ["true"])
    lab.down()
    lab.down()  # nothing to do
    assert not registry.directory.exists()


def test_a_lab_can_be_found_by_its_name_and_used_and_taken_down_by_another(registry: Registry) -> None:
    with Lab(nodes=1, pods=1, backend="none", name="found", registry=registry) as lab:
        other = Lab.attach("found", registry=registry)
        assert other.plan == lab.plan
        assert other.address("n1/p1") == lab.address("n1/p1")
        assert other.run("n1", ["hostname"]).stdout == "n1\n"
        init = lab.init
        other.down()
        assert not init.alive()


def test_a_name_in_use_is_refused_and_the_first_lab_stays(registry: Registry) -> None:
    with Lab(nodes=1, pods=0, backend="none", name="taken", registry=registry) as first:
        with pytest.raises(LabError, match="There is a lab 'taken' already"):
            Lab(nodes=1, backend="none", name="taken", registry=registry).up()
        assert first.run("n1", ["true"]).returncode == 0


def test_a_tulled_that_ends_at_once_is_reported_with_its_last_words_and_nothing_is_left(
    registry: Registry,
) -> None:
    broken = ["sh", "-c", "echo this tulled is broken >&2; sleep 0.2"]
    with pytest.raises(
        LabError, match=r"The tulled of n1 has ended\. Its log ends:\n +this tulled is broken"
    ):
        Lab(nodes=1, pods=0, tulled=broken, registry=registry).up()
    assert not registry.directory.exists()


def test_an_unknown_backend_is_refused_before_any_tulled_starts(registry: Registry) -> None:
    with pytest.raises(LabError, match="carrier-pigeon"):
        Lab(nodes=1, pods=0, backend="carrier-pigeon", registry=registry).up()
    assert not registry.directory.exists()


def test_options_of_the_backend_reach_every_node(registry: Registry) -> None:
    with Lab(nodes=2, pods=1, backend_options={"Port": 9999}, underlay_mtu=1400, registry=registry) as lab:
        assert lab.ping("n1/p1", "n2/p1", 2) == 2
        listening = lab.read_file("n1", "/proc/net/udp") + lab.read_file("n1", "/proc/net/udp6")
        assert f":{9999:04X} " in listening
        assert lab.nets["n1"].mtu == 1400 - 28


OWNER = """
import sys
from pathlib import Path
from tulle.lab import Lab
from tulle.lab.registry import Registry
lab = Lab(nodes=1, pods=1, name="orphan", registry=Registry(Path(sys.argv[1])))
lab.up()
print(lab.init.pid, *(one.pid for one in lab.residents()), flush=True)
sys.stdin.read()
"""


def test_a_lab_ends_with_the_process_that_made_it_and_the_next_one_who_looks_cleans_up(
    registry: Registry,
) -> None:
    before = host_view()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(registry.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) >= 3
    owner.kill()
    owner.communicate()
    deadline = time.monotonic() + 10
    while any(start_time(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (registry.directory / "orphan.json").exists()
    assert registry.living() == {}
    assert not registry.directory.exists()
    assert host_view() == before
