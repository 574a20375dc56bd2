"""What does it cost that packets go through user space?

One lab of two nodes with a pod each, the same links for all; what changes from turn to turn is the way between the
nodes: kernel routes and a kernel VXLAN device, both laid by hand (`join`), and tulle's udp backend with the python
engine. Each way has the MTU that its overhead leaves of 1500. iperf3 moves TCP and UDP, `pingpong` measures the wait.
The veth pairs keep their offloads, so the kernel's ways carry super-packets that no network card would have to cut.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import Aim, Effort, Result, Turns
from benchmarks.processes import cpu_s
from tulle.lab import Lab
from tulle.lab.errors import LabError

QUESTION = "What does it cost that packets go through user space?"

NEAR, FAR = "n1/p1", "n2/p1"
ROUTES, VXLAN, TULLE = "kernel routes", "kernel VXLAN", "udp, python engine"
WAYS = {
    ROUTES: ("routes", 1500, "eth0"),
    VXLAN: ("vxlan", 1450, "bench-vxlan"),
    TULLE: ("tulle", 1472, "tulle0"),
}
"""Subject -> the way's name in `join`, its MTU, and the link that it must lead to."""

TCP_1, TCP_4, SMALL, RTT, CPU = "TCP, 1 stream", "TCP, 4 streams", "64-byte UDP", "RTT p50", "forwarders' CPU"
SECONDS = 5
ROUND_TRIPS = 2000
SMALL_BYTES = 64
GBIT_AIM = 0.9
READY_S = 10.0
HERE = Path(__file__).parent


def measure(effort: Effort) -> Result:
    turns = Turns()
    counts: dict[str, int] = {}
    with Lab(nodes=2, pods=1, backend="udp", engine="python") as lab, servers(lab) as echo_port:
        for _ in range(effort.turns):
            for subject in WAYS:
                lay(lab, subject)
                for name, count in one_turn(lab, subject, echo_port, effort, turns).items():
                    key = f"{subject}: {name}"
                    counts[key] = counts.get(key, 0) + count
    figures = [
        turns.figure(TCP_1, "Gb/s", "higher", baseline=ROUTES, aims=[Aim(TULLE, GBIT_AIM)]),
        turns.figure(TCP_4, "Gb/s", "higher", baseline=ROUTES),
        turns.figure(SMALL, "1000/s received", "higher", baseline=ROUTES),
        turns.figure(RTT, "us", "lower", baseline=ROUTES),
        turns.figure(CPU, "s/GB, both nodes", "lower"),
    ]
    note = "all senders, receivers and forwarders share this machine's cores"
    return Result(figures, counts, [note])


def lay(lab: Lab, subject: str) -> None:
    """Have the two nodes joined this way, and no other. Raises LabError where packets would go elsewhere."""
    way, mtu, link = WAYS[subject]
    for near, far in (("n1", "n2"), ("n2", "n1")):
        request = {
            "way": way,
            "mtu": mtu,
            "links": ["cni0", "to-p1"],
            "near_node": lab.address(near),
            "far_node": lab.address(far),
            "far_pods": str(lab.nets[far].pod(0)[0].network),
            "far_pod": lab.address(f"{far}/p1"),
            "near_end": str(lab.nets[near].pod(0)[0].network.network_address),
            "far_end": str(lab.nets[far].pod(0)[0].network.network_address),
        }
        found = script(lab, near, "join.py", given=request)["link"]
        if found != link:
            raise LabError(
                f"{near}: packets for {far} go to {found}, not to {link}, in the turn of {subject}."
            )
        script(lab, f"{near}/p1", "join.py", given={"mtu": mtu, "links": ["eth0"]})


def one_turn(lab: Lab, subject: str, echo_port: int, effort: Effort, turns: Turns) -> dict[str, int]:
    """All measurements of one way. Returns what was moved."""
    address = lab.address(FAR)
    asked = ["ask", address, str(echo_port), str(effort.of(ROUND_TRIPS, 100))]
    pings = script(lab, NEAR, "pingpong.py", *asked)
    turns.add(RTT, subject, pings["p50_us"])

    before = forwarders_cpu_s(lab)
    one = iperf3(lab, *amount(effort, "-n", "16M"))
    spent = forwarders_cpu_s(lab) - before
    four = iperf3(lab, "-P", "4", *amount(effort, "-n", "16M"))
    small = iperf3(lab, "-u", "-b", "0", "-l", str(SMALL_BYTES), *amount(effort, "-k", "3000"))

    turns.add(TCP_1, subject, one["sum_received"]["bits_per_second"] / 1e9)
    turns.add(TCP_4, subject, four["sum_received"]["bits_per_second"] / 1e9)
    received = small["sum_received"]
    arrived = received["packets"] - received["lost_packets"]
    turns.add(SMALL, subject, arrived / received["seconds"] / 1000)
    if subject == TULLE:
        turns.add(CPU, subject, spent / (one["sum_received"]["bytes"] / 1e9))
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


def forwarders_cpu_s(lab: Lab) -> float:
    """Seconds of processor time that the forwarders of both nodes have used."""
    return sum(cpu_s(pid) for node in lab.plan.node_names if (pid := lab.forwarder_pid(node)))
