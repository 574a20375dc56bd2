"""What a process has used, from proc(5)."""

from __future__ import annotations

import os
from pathlib import Path

from tulle.lab import Lab


def cpu_s(pid: int) -> float:
    """Seconds of processor time: fields 14 and 15 of stat, utime and stime in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family_cpu_s(pid: int) -> float:
    """The same of a process and all that it has started (a program in a lab is the child of what brought it there)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_s(pid) + sum(family_cpu_s(int(child)) for child in children)


def resident_mb(pid: int) -> float:
    """VmRSS: what lies in memory now, shared pages included. Raises ValueError for a process that has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"process {pid} has ended: it has no memory to be measured")


def forwarders_cpu_s(lab: Lab) -> float:
    """Seconds of processor time that the forwarders of both nodes have used."""
    return sum(cpu_s(pid) for node in lab.plan.node_names if (pid := lab.forwarder_pid(node)))
