"""On what was measured: the machine and the versions that figures depend on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("tulle", "grpcio", "msgspec", "protobuf", "pyroute2", "pytest-benchmark")


def machine() -> dict[str, str]:
    """The processor, how many of it we may use, memory, kernel, and how busy it was before we began."""
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    return {
        "cpu": cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": platform.release(),
        "load before": load,
    }


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Processor"):
            return value.strip()
    return platform.machine()


def versions() -> dict[str, str]:
    """Python, the packages on the measured paths, iperf3."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    found["iperf3"] = first_line("iperf3", "--version")
    return found


def first_line(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        return "not installed"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10)
    return done.stdout.partition("\n")[0] or "unknown"
