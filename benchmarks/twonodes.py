"""Two nodes with a pod each, the same links for all, and several ways between them that take turns: what every
benchmark of a data path measures, and how.

iperf3 moves TCP and UDP, `pingpong` measures the wait. The veth pairs keep their offloads, so the kernel's ways carry
super-packets that no network card would have to cut.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Effort, Turns
from tulle.lab import Lab
from tulle.lab.errors import LabError

NEAR, FAR = "n1/p1", "n2/p1"
TCP_1, TCP_4, SMALL, RTT, CPU = "TCP, 1 stream", "TCP, 4 streams", "64-byte UDP", "RTT p50", "processes' CPU"
SECONDS = 5
ROUND_TRIPS = 2000
SMALL_BYTES = 64
READY_S = 10.0
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Way:
    """One way from pod to pod."""

    subject: str
    join: str
    """Its name in `join`."""
    mtu: int
    """What its overhead leaves of 1500."""
    link: str
    """That it must lead to."""
    cpu_s: Callable[[], float] | None = None
    """Seconds of processor time that its user-space processes on both nodes have used."""


def take_turns(lab: Lab, ways: Sequence[Way], effort: Effort, turns: Turns) -> dict[str, int]:
    """All measurements of all ways, each way as often as the effort asks. Returns what was moved, by subject."""
    counts: dict[str, int] = {}
    with servers(lab) as echo_port:
        for _ in range(effort.turns):
            for way in ways:
                lay(lab, way)
                for name, count in one_turn(lab, way, echo_port, effort, turns).items():
                    key = f"{way.subject}: {name}"
                    counts[key] = counts.get(key, 0) + count
    return counts


def lay(lab: Lab, way: Way) -> None:
    """Have the two nodes joined this way, and no other. Raises LabError where packets would go elsewhere."""
    for near, far in (("n1", "n2"), ("n2", "n1")):
        request = {
            "way": way.join,
            "link": way.link,
            "mtu": way.mtu,
            "links": ["cni0", "to-p1"],
            "near_node": lab.address(near),
            "far_node": lab.address(far),
            "far_pods": str(lab.nets[far].pod(0)[0].network),
            "far_pod": lab.address(f"{far}/p1"),
            "near_end": str(lab.nets[near].pod(0)[0].network.network_address),
            "far_end": str(lab.nets[far].pod(0)[0].network.network_address),
        }
        found = script(lab, near, "join.py", given=request)["link"]
        if found != way.link:
            raise LabError(
                f"{near}: packets for {far} go to {found}, not to {way.link}, in the turn of {way.subject}."
            )
        script(lab, f"{near}/p1", "join.py", given={"mtu": way.mtu, "links": ["eth0"]})


def one_turn(lab: Lab, way: Way, echo_port: int, effort: Effort, turns: Turns) -> dict[str, int]:
    """All measurements of one way. Returns what was moved."""
    address = lab.address(FAR)
    asked = ["ask", address, str(echo_port), str(effort.of(ROUND_TRIPS, 100))]
    pings = script(lab, NEAR, "pingpong.py", *asked)
    turns.add(RTT, way.subject, pings["p50_us"])

    before = way.cpu_s() if way.cpu_s is not None else 0.0
    one = iperf3(lab, *amount(effort, "-n", "16M"))
    spent = way.cpu_s() - before if way.cpu_s is not None else 0.0
    four = iperf3(lab, "-P", "4", *amount(effort, "-n", "16M"))
    small = iperf3(lab, "-u", "-b", "0", "-l", str(SMALL_BYTES), *amount(effort, "-k", "3000"))

    turns.add(TCP_1, way.subject, one["sum_received"]["bits_per_second"] / 1e9)
    turns.add(TCP_4, way.subject, four["sum_received"]["bits_per_second"] / 1e9)
    received = small["sum_received"]
    arrived = received["packets"] - received["lost_packets"]
    turns.add(SMALL, way.subject, arrived / received["seconds"] / 1000)
    if way.cpu_s is not None:
        turns.add(CPU, way.subject, spent / (one["sum_received"]["bytes"] / 1e9))
    return {
        "round trips": pings["answered"],
        "TCP bytes sent": one["sum_sent"]["bytes"] + four["sum_sent"]["bytes"],
        "TCP bytes received": one["sum_received"]["bytes"] + four["sum_received"]["bytes"],
        "UDP sent": small["sum_sent"]["packets"],
        "UDP received": arrived,
    }


def amount(effort: Effort, quick_flag: str, quick: str) -> Sequence[str]:
    return (quick_flag, quick) if effort.quick else ("-t", str(SECONDS))


def iperf3(lab: Lab, *words: str) -> dict[str, Any]:
    """Run a client; returns the "end" of its report. The server may still be busy with the last one, or starting."""
    deadline = time.monotonic() + READY_S
    while True:
        command = ["iperf3", "-J", "-c", lab.address(FAR), *words]
        done = lab.run(NEAR, command, check=False)
        try:
            report = json.loads(done.stdout)
        except ValueError:
            raise LabError(f"iperf3 in {NEAR} wrote no report: {done.stderr or done.stdout}") from None
        if "error" not in report:
            end: dict[str, Any] = report["end"]
            return end
        if time.monotonic() > deadline:
            raise LabError(f"iperf3 in {NEAR} to {FAR}: {report['error']}")
        time.sleep(0.1)


@contextmanager
def servers(lab: Lab) -> Iterator[int]:
    """The far ends of all measurements. Gives the port of `pingpong`."""
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    echo = lab.popen(
        FAR, python("pingpong.py", "answer", lab.address(FAR)), stdout=subprocess.PIPE, text=True, **quiet
    )
    sink = lab.popen(FAR, ["iperf3", "-s"], stdout=subprocess.DEVNULL, **quiet)
    try:
        assert echo.stdout is not None
        yield int(json.loads(echo.stdout.readline())["listening"])
    finally:
        for server in (echo, sink):
            server.kill()
            server.communicate()


def python(file: str, *words: str) -> list[str]:
    """A command that runs a file of this folder; -P: without this folder in the module path."""
    return [sys.executable, "-P", str(HERE / file), *words]


def script(lab: Lab, place: str, file: str, *words: str, given: dict[str, Any] | None = None) -> Any:
    """Run a file of this folder there, with JSON in and out."""
    done = lab.run(place, python(file, *words), input=None if given is None else json.dumps(given))
    return json.loads(done.stdout) if done.stdout else None
