"""What does VXLAN cost, by whom it is laid?

In turns: a device that a hand has laid and tulle's own in the kernel, which must be equal, and tulle's VXLAN in user
space with the python engine. (The times of the control plane are `kernel_peers`.)
"""

from __future__ import annotations

from functools import partial

from benchmarks.figures import Aim, Effort, Result, Turns
from benchmarks.processes import forwarders_cpu_s
from benchmarks.twonodes import CPU, RTT, SMALL, TCP_1, TCP_4, Way, take_turns
from tulle.lab import Lab

QUESTION = "What does VXLAN cost, laid by hand, by tulle in the kernel, and by tulle in user space?"

BY_HAND, KERNEL, USER = "kernel VXLAN by hand", "vxlan, kernel", "vxlan, python engine"
MTU = 1450
NOISE = 0.05
"""By hand and by tulle the kernel runs the same code: what lies between them is the machine's doing."""


def measure(effort: Effort) -> Result:
    turns, once = Turns(), Effort(effort.quick, rounds=1)
    counts: dict[str, int] = {}
    lab_of = partial(Lab, nodes=2, pods=1, engine="python")
    with (
        lab_of(backend="udp") as by_hand,
        lab_of(backend="vxlan") as kernel,
        lab_of(backend="vxlan", backend_options={"Mode": "userspace"}) as user,
    ):
        ways = (
            (by_hand, Way(BY_HAND, "vxlan", MTU, "bench-vxlan")),
            (kernel, Way(KERNEL, "tulle", MTU, "flannel.1")),
            (user, Way(USER, "tulle", MTU, "tulle0", lambda: forwarders_cpu_s(user))),
        )
        for _ in range(effort.turns):
            for lab, way in ways:
                for name, count in take_turns(lab, [way], once, turns).items():
                    counts[name] = counts.get(name, 0) + count
    plain = turns.figure(TCP_1, "Gb/s", "higher", baseline=BY_HAND)
    equal = Aim(KERNEL, (1 - NOISE) * plain.median(BY_HAND))
    figures = [
        turns.figure(TCP_1, "Gb/s", "higher", baseline=BY_HAND, aims=[equal]),
        turns.figure(TCP_4, "Gb/s", "higher", baseline=BY_HAND),
        turns.figure(SMALL, "1000/s received", "higher", baseline=BY_HAND),
        turns.figure(RTT, "us", "lower", baseline=BY_HAND),
        turns.figure(CPU, "s/GB, both nodes", "lower"),
    ]
    return Result(figures, counts, ["all senders, receivers and forwarders share this machine's cores"])
