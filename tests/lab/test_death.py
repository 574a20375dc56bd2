"""tulled, the forwarder or the store ends, and packets go on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.registry import Registry
from tulle.lab.stores import start_etcd

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-death")]

FLOOD_PACKETS = 20_000
FLOOD_RATE = 4_000.0
"""A second. The Python engine carries several times as many on a quiet machine; tests run on busy ones."""
DEVICE = "tulle0"
BACK_MS = 1000.0
"""Without a forwarder, at the most; it takes about 200 on a machine that is not busy."""


@pytest.fixture(scope="module", params=["etcd", "sqlite"])
def lab(request: pytest.FixtureRequest, make_lab: Callable[..., Lab], etcd_here: Path) -> Lab:
    return make_lab(nodes=2, pods=1, store=request.param)


def adopted(lab: Lab, node: str) -> bool:
    """Whether the last tulled says that it took over a running forwarder."""
    lines = [line for line in lab.logs(node).splitlines() if "worker-running" in line]
    return "adopted=True" in lines[-1]


def test_no_packet_of_a_flood_is_lost_when_tulled_is_killed_and_started_again(
    lab: Lab, say: Callable[[str, object], None]
) -> None:
    """The whole life of a restart lies within the flood: killed, started, forwarder adopted."""
    forwarder, subnets = lab.forwarder_pid("n1"), lab.status("n1")["subnets"]
    with lab.flood("n1/p1", "n2/p1", count=FLOOD_PACKETS, rate=FLOOD_RATE) as flood:
        time.sleep(0.5)
        lab.kill_tulled("n1")
        time.sleep(0.5)
        started = time.monotonic()
        lab.start_tulled("n1")
        lab.wait_ready()
        say("ready-after-s", round(time.monotonic() - started, 2))
        result = flood.finish()
    say("flood", result)
    assert (result.sent, result.lost, result.duplicates) == (FLOOD_PACKETS, 0, 0)
    assert lab.forwarder_pid("n1") == forwarder
    assert adopted(lab, "n1")
    assert lab.status("n1")["subnets"] == subnets


def test_no_packet_is_lost_when_the_receivers_tulled_is_killed(lab: Lab) -> None:
    with lab.flood("n2/p1", "n1/p1", count=FLOOD_PACKETS // 4, rate=FLOOD_RATE) as flood:
        time.sleep(0.3)
        lab.kill_tulled("n1")
        assert flood.finish().lost == 0
    lab.start_tulled("n1")
    lab.wait_ready()


def test_a_killed_forwarder_is_replaced_and_the_device_stays(
    lab: Lab, hands: Callable[[Lab], Any], eventually: Callable[..., Any], say: Callable[[str, object], None]
) -> None:
    before, subnets = hands(lab).links("n1")[DEVICE], lab.status("n1")["subnets"]
    old, restarts = lab.forwarder_pid("n1"), lab.status("n1")["dataplane"]["forwarder_restarts"]
    killed = time.monotonic()
    lab.kill_forwarder("n1")
    eventually(lambda: lab.ping("n2/p1", "n1/p1") == 1)
    say("traffic-again-after-s", round(time.monotonic() - killed, 2))
    assert lab.forwarder_pid("n1") not in (None, old)
    assert hands(lab).links("n1")[DEVICE] == before
    assert lab.status("n1")["subnets"] == subnets
    lab.wait_ready()
    assert lab.status("n1")["dataplane"]["forwarder_restarts"] == restarts + 1


def test_packets_wait_in_the_devices_queue_less_than_a_second_for_the_next_forwarder(lab: Lab) -> None:
    """What pods send while there is no forwarder is not lost: the device stays, and with it its queue."""
    with lab.flood("n1/p1", "n2/p1", count=4000, rate=1000.0) as flood:
        time.sleep(0.5)
        lab.kill_forwarder("n1")
        result = flood.finish()
    # What the dead one had read and not yet sent is gone with it: one batch.
    assert result.lost <= 64, result
    assert result.longest_gap_ms < BACK_MS, result
    lab.wait_ready()


def test_tulled_and_forwarder_both_killed_come_back_with_the_same_subnet(lab: Lab) -> None:
    """With the last descriptor the device goes; what is left is the way to make everything anew."""
    subnets = lab.status("n1")["subnets"]
    lab.kill_tulled("n1")
    lab.kill_forwarder("n1")
    lab.start_tulled("n1")
    lab.wait_ready()
    assert lab.status("n1")["subnets"] == subnets
    assert lab.ping("n2/p1", "n1/p1", 3) == 3


def test_sigterm_ends_tulled_and_packets_go_on(lab: Lab, hands: Callable[[Lab], Any]) -> None:
    forwarder = lab.forwarder_pid("n1")
    lab.kill_tulled("n1", signal.SIGTERM)
    assert lab.tulled_pid("n1") is None
    assert "packets go on" in lab.log_tail("n1")
    assert lab.ping("n1/p1", "n2/p1", 5) == 5
    assert lab.ping("n2/p1", "n1/p1", 5) == 5
    assert hands(lab).exists("n1", "/run/flannel/subnet.env")
    lab.start_tulled("n1")
    lab.wait_ready()
    assert lab.forwarder_pid("n1") == forwarder


@pytest.mark.etcd
@pytest.mark.parametrize(
    "away_s", [5.0, pytest.param(180.0, marks=[pytest.mark.soak, pytest.mark.timeout(400)])]
)
def test_packets_go_on_while_the_store_is_away_and_it_is_found_again(
    registry: Registry, etcd_here: Path, eventually: Callable[..., Any], away_s: float
) -> None:
    with Lab(nodes=2, pods=1, store="etcd", registry=registry) as lab:
        subnets = {node: lab.status(node)["subnets"] for node in lab.plan.node_names}
        (etcd,) = [one.pid for one in lab.residents() if one.argv[0].endswith("/etcd")]
        os.kill(etcd, signal.SIGKILL)
        end = time.monotonic() + away_s
        while time.monotonic() < end:
            assert lab.ping("n1/p1", "n2/p1", 5) == 5
        # tulled asks for the store's health every 10 s, whatever its watches know already.
        eventually(lambda: lab.status("n1")["store"]["state"] == "away")
        assert lab.status("n1")["ready"]
        assert lab.ping("n1/p1", "n2/p1", 5) == 5
        start_etcd(lab)
        eventually(lambda: lab.status("n1")["store"]["state"] == "connected")
        lab.wait_ready()
        assert {node: lab.status(node)["subnets"] for node in lab.plan.node_names} == subnets
        assert lab.ping("n2/p1", "n1/p1", 3) == 3


@pytest.mark.etcd
def test_a_tulled_that_starts_while_the_store_is_away_waits_and_the_packets_go_on(
    registry: Registry, etcd_here: Path
) -> None:
    with Lab(nodes=2, pods=1, store="etcd", registry=registry) as lab:
        forwarder, subnets = lab.forwarder_pid("n1"), lab.status("n1")["subnets"]
        (etcd,) = [one.pid for one in lab.residents() if one.argv[0].endswith("/etcd")]
        lab.kill_tulled("n1")
        os.kill(etcd, signal.SIGKILL)
        lab.start_tulled("n1")
        time.sleep(2.0)
        status = lab.status("n1")
        assert (status["ready"], status["not_ready_because"]) == (False, ["waiting for the network config"])
        assert lab.ping("n1/p1", "n2/p1", 3) == 3
        assert len([line for line in lab.logs("n1").splitlines() if "WARNING" in line]) <= 2
        start_etcd(lab)
        lab.wait_ready()
        assert (lab.forwarder_pid("n1"), lab.status("n1")["subnets"]) == (forwarder, subnets)
