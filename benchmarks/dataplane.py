"""What does it cost that packets go through user space?

What changes from turn to turn is the way between the nodes: kernel routes and a kernel VXLAN device, both laid by hand
(`join`), and tulle's udp backend with the python engine.
"""

from __future__ import annotations

from benchmarks.figures import Aim, Effort, Result, Turns
from benchmarks.processes import forwarders_cpu_s
from benchmarks.twonodes import CPU, RTT, SMALL, TCP_1, TCP_4, Way, take_turns
from tulle.lab import Lab

QUESTION = "What does it cost that packets go through user space?"

ROUTES, VXLAN, TULLE = "kernel routes", "kernel VXLAN", "udp, python engine"
GBIT_AIM = 0.9


def measure(effort: Effort) -> Result:
    turns = Turns()
    with Lab(nodes=2, pods=1, backend="udp", engine="python") as lab:
        ways = (
            Way(ROUTES, "routes", 1500, "eth0"),
            Way(VXLAN, "vxlan", 1450, "bench-vxlan"),
            Way(TULLE, "tulle", 1472, "tulle0", lambda: forwarders_cpu_s(lab)),
        )
        counts = take_turns(lab, ways, effort, turns)
    figures = [
        turns.figure(TCP_1, "Gb/s", "higher", baseline=ROUTES, aims=[Aim(TULLE, GBIT_AIM)]),
        turns.figure(TCP_4, "Gb/s", "higher", baseline=ROUTES),
        turns.figure(SMALL, "1000/s received", "higher", baseline=ROUTES),
        turns.figure(RTT, "us", "lower", baseline=ROUTES),
        turns.figure(CPU, "s/GB, both nodes", "lower"),
    ]
    note = "all senders, receivers and forwarders share this machine's cores"
    return Result(figures, counts, [note])
