"""What every backend must stand, with every engine that carries its packets: tulled killed, the forwarder replaced, its
link deleted, its store lost, each under a flood that is counted and streams that are hashed.

A backend or an engine that is new gets a line in SETUPS, and with it all of this.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tulle.lab import Lab
from tulle.lab.measure import StreamResult
from tulle.lab.plan import RUN_DIR
from tulle.lab.stores import start_etcd
from tulle.node.client import Client
from tulle.testing.faults.links import address_changed
from tulle.testing.faults.processes import kill, resident_bytes
from tulle.testing.faults.proxy import StoreProxy

pytestmark = [pytest.mark.lab, pytest.mark.etcd, pytest.mark.xdist_group("lab-kills")]


class Setup(NamedTuple):
    """A backend, and what moves its packets."""

    backend: str
    delete: str
    """What takes its link away (host-gw has none of its own: the node's, and with it all routes by way of it)."""
    engine: str = "auto"
    """Where the kernel forwards, nobody asks for one."""
    options: tuple[tuple[str, Any], ...] = ()
    """Of the backend."""
    forwarder: bool = False

    def lab(self) -> dict[str, Any]:
        return {
            "nodes": 2,
            "pods": 1,
            "backend": self.backend,
            "backend_options": dict(self.options),
            "engine": self.engine,
            "store": "etcd",
            "tulled": TULLED,
        }

    def __str__(self) -> str:
        return "-".join([self.backend, *([self.engine] if self.forwarder else [])])


SETUPS = (
    Setup("udp", "ip link del tulle0", engine="python", forwarder=True),
    Setup("vxlan", "ip link del flannel.1"),
    Setup("host-gw", "ip link set eth0 down; ip link set eth0 up"),
    Setup("vxlan", "ip link del tulle0", engine="python", options=(("Mode", "userspace"),), forwarder=True),
    Setup("wireguard", "ip link del tulle-wg", engine="python", forwarder=True),
)
ONE_OF_EACH = tuple({one.backend: one for one in reversed(SETUPS)}.values())
"""For what no engine has a part in."""
KILLS, SOAK_KILLS = 10, 100
RATE = 2_000.0
PACKETS_A_KILL = 2_000
"""A kill, a start and the way to ready take less than a second on a quiet machine."""
STREAM_BYTES = 64 << 20
HAND_OVERS = 3
HAND_OVER_S = 1.5
"""A new forwarder loads in about 0.4 s."""
LONG_STREAM_BYTES, FLOWING_BYTES = 256 << 20, 1 << 20
"""Of a stream whose link is deleted: it takes a second and more, and has begun by then."""
RECONNECTS, FEW = 300, 100
"""What is there after the first few is there after all."""
RECONNECT_S = 5.0
GROWTH_BYTES = 3 << 20
LOG_LINES = 20
"""Of tulled, for however many reconnects."""
FLOOD_PACKETS = 16_000
REACHED_S = 10.0
LONG_S = 60.0

ETCD, PROXY = "192.0.2.254:2379", "192.0.2.254:2400"
BY_PROXY = "--by-proxy"
TULLED = (
    *(sys.executable, "-c"),
    "import sys, tulle.store.retry as retry\n"
    "from tulle.node.main import main\n"
    f"if {BY_PROXY!r} in sys.argv:\n"
    "    retry.FIRST_WAIT_S = retry.LONGEST_WAIT_S = 0.01\n"
    f"    sys.argv.remove({BY_PROXY!r})\n"
    f"    sys.argv[1:] = [one.replace({ETCD!r}, {PROXY!r}) for one in sys.argv[1:]]\n"
    "main()",
)
"""With that flag its store is behind a line, and it waits shortly between tries: what is tried is the reconnecting."""

Say = Callable[[str, object], None]


@pytest.fixture(scope="module", params=SETUPS, ids=str)
def setup(request: pytest.FixtureRequest) -> Setup:
    found: Setup = request.param
    return found


@pytest.fixture(scope="module")
def lab(setup: Setup, make_lab: Callable[..., Lab], etcd_here: object) -> Lab:
    return make_lab(**setup.lab())


@contextmanager
def streams(lab: Lab) -> Iterator[list[StreamResult]]:
    """One after the other from n1's pod to n2's, as long as the block lasts; all are there behind it."""
    found: list[StreamResult] = []
    enough = threading.Event()

    def run() -> None:
        while not enough.is_set():
            found.append(lab.transfer("n1/p1", "n2/p1", STREAM_BYTES, timeout=LONG_S))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield found
        finally:
            enough.set()
        running.result(timeout=2 * LONG_S)


def assert_whole(found: list[StreamResult], say: Say) -> None:
    say("streams", len(found))
    assert found
    assert {(one.bytes, one.unchanged) for one in found} == {(STREAM_BYTES, True)}


def killed_under_load(lab: Lab, kills: int, say: Say) -> None:
    subnets, started = lab.status("n1")["subnets"], lab.logs("n1").count(" starting tulled=")
    count = kills * PACKETS_A_KILL
    with lab.flood("n2/p1", "n1/p1", count=count, rate=RATE) as flood:
        with streams(lab) as moved:
            for _ in range(kills):
                lab.kill_tulled("n1")
                lab.start_tulled("n1")
                lab.wait_ready()
        result = flood.finish()
    say("flood", result)
    assert_whole(moved, say)
    assert (result.sent, result.lost, result.duplicates) == (count, 0, 0)
    assert lab.status("n1")["subnets"] == subnets
    assert lab.logs("n1").count(" starting tulled=") == started + kills


def test_ten_kills_lose_no_packet_and_change_no_byte(lab: Lab, say: Say) -> None:
    killed_under_load(lab, KILLS, say)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_hundred_kills_lose_no_packet_and_change_no_byte(lab: Lab, say: Say) -> None:
    killed_under_load(lab, SOAK_KILLS, say)


def test_hand_overs_lose_no_packet_and_change_no_byte(
    lab: Lab, setup: Setup, hands: Callable[[Lab], Any], say: Say
) -> None:
    node = hands(lab)
    if not setup.forwarder:
        said = node.tulle("n1", "forwarder", "replace", check=False)
        assert (said.returncode, "the kernel forwards" in said.stderr) == (1, True), said
        return
    seen = {lab.status("n1")["dataplane"]["forwarder_pid"]}
    with lab.flood("n2/p1", "n1/p1", count=int(RATE * HAND_OVER_S * HAND_OVERS), rate=RATE) as flood:
        with streams(lab) as moved:
            for _ in range(HAND_OVERS):
                say("said", node.tulle("n1", "forwarder", "replace").stdout.strip())
                seen.add(lab.status("n1")["dataplane"]["forwarder_pid"])
        result = flood.finish()
    say("flood", result)
    assert_whole(moved, say)
    assert (result.lost, result.duplicates) == (0, 0)
    assert len(seen) == HAND_OVERS + 1


def test_a_stream_outlives_its_link(lab: Lab, setup: Setup, eventually: Callable[..., Any], say: Say) -> None:
    """What is under way is lost with it, and sent again by those who miss it."""
    known, before = len(lab.status("n1")["mended"]), sent_bytes(lab)
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(lab.transfer, "n1/p1", "n2/p1", LONG_STREAM_BYTES, timeout=LONG_S)
        eventually(lambda: sent_bytes(lab) - before > FLOWING_BYTES)
        assert not stream.done()
        deleted = time.monotonic()
        lab.run("n1", ["sh", "-c", setup.delete])
        eventually(lambda: lab.ping("n2/p1", "n1/p1") == 1)
        say("traffic-again-after-s", round(time.monotonic() - deleted, 2))
        moved = stream.result(timeout=2 * LONG_S)
    say("stream", moved)
    assert moved.unchanged
    eventually(lambda: len(lab.status("n1")["mended"]) > known)
    lab.wait_ready()


def sent_bytes(lab: Lab) -> int:
    """By n1's pod."""
    (link,) = json.loads(lab.run("n1/p1", ["ip", "-json", "-stats", "link", "show", "eth0"]).stdout)
    return int(link["stats64"]["tx"]["bytes"])


@pytest.mark.parametrize("setup", ONE_OF_EACH, indirect=True, ids=str)
def test_three_hundred_reconnects_of_the_store_are_not_noticed_by_those_who_talk(lab: Lab, say: Say) -> None:
    lab.kill_tulled("n1")
    with StoreProxy(lab, "switch", listen=PROXY, server=ETCD) as proxy:
        lab.start_tulled("n1", [BY_PROXY])
        lab.wait_ready()
        pid = lab.tulled_pid("n1")
        assert pid is not None
        known, begun = len(lab.logs("n1").splitlines()), time.monotonic()
        with lab.flood("n2/p1", "n1/p1", count=FLOOD_PACKETS, rate=RATE) as flood:
            with streams(lab) as moved:
                reconnect(proxy, pid, FEW)
                early = resident_bytes(pid), open_files(pid)
                reconnect(proxy, pid, RECONNECTS - FEW)
                late = resident_bytes(pid), open_files(pid)
            say("reconnects-took-s", round(time.monotonic() - begun, 1))
            result = flood.finish()
        said = lab.logs("n1").splitlines()[known:]
        # And with the one that is not behind the line any more; the next tulled finds the store where it is.
        lab.kill_tulled("n1")
    lab.start_tulled("n1")
    lab.wait_ready()
    say("flood", result)
    say("mb-and-files", [(round(size / 1e6, 1), files) for size, files in (early, late)])
    assert_whole(moved, say)
    assert (result.lost, result.duplicates) == (0, 0)
    assert late[0] - early[0] < GROWTH_BYTES
    assert late[1] <= early[1] + 2
    assert len(said) <= LOG_LINES, said


def test_while_the_store_is_away_a_pod_that_is_new_is_reached_by_all(
    make_lab: Callable[..., Lab], etcd_here: object, eventually: Callable[..., Any]
) -> None:
    """An address of the node's subnet that nobody had before; that is all that a new pod is to the others."""
    lab = make_lab(**SETUPS[0].lab())
    lab.wait_ready()
    (etcd,) = [one.pid for one in lab.residents() if one.argv[0].endswith("/etcd")]
    old = ip_interface(f"{lab.address('n1/p1')}/24")
    new = ip_interface(f"{old.ip + 100}/24")
    kill(etcd)
    try:
        eventually(lambda: lab.status("n1")["store"]["state"] == "away")
        with address_changed(lab, "n1/p1", str(old), str(new)):
            lab.run("n1/p1", ["ip", "route", "replace", "default", "via", str(old.network[1])])
            eventually(lambda: ping(lab, "n2/p1", str(new.ip)), REACHED_S)
        lab.run("n1/p1", ["ip", "route", "replace", "default", "via", str(old.network[1])])
        eventually(lambda: ping(lab, "n2/p1", str(old.ip)), REACHED_S)
        assert lab.status("n1")["ready"]
    finally:
        start_etcd(lab)
    eventually(lambda: lab.status("n1")["store"]["state"] == "connected")
    lab.wait_ready()


def ping(lab: Lab, place: str, address: str) -> bool:
    done = lab.run(place, [sys.executable, "-m", "tulle.lab.traffic", "ping", address])
    return bool(json.loads(done.stdout)[address])


def reconnect(proxy: StoreProxy, pid: int, times: int) -> None:
    """Cut the line so many times, and see each time that all that tulled knows of the store is followed again."""
    client = Client(Path(f"/proc/{pid}/root{RUN_DIR}"))

    def followed() -> list[int]:
        mirrors = client.get("status")["store"]["mirrors"].values()
        return [one["reconnects"] for one in mirrors if one["state"] == "connected"]

    before = followed()
    assert before
    for number in range(1, times + 1):
        proxy.drop()
        deadline = time.monotonic() + RECONNECT_S
        while followed() != [one + number for one in before]:
            assert time.monotonic() < deadline, f"not followed again after reconnect {number}"
            time.sleep(0.002)


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
