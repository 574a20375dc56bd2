"""Starts a lab's init from outside, gives it its user ids and hands back a hold on it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tulle.lab import init, refusal
from tulle.lab.errors import LabError
from tulle.lab.registry import Process, start_time

SOURCE_ROOT = str(Path(__file__).resolve().parents[2])

READY_S = 20.0
"""Time for the namespaces; a quiet machine needs 0.1 s."""

END_S = 20.0
"""Time for the kernel to end all processes of a lab."""


def python_program(module: str) -> list[str]:
    """A command that runs a module of the lab's without site-packages: three times as quick to start."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    code += f"from {module} import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-I", "-S", "-c", code, SOURCE_ROOT]


class Launched:
    """A running init that lives as long as this object is open, or for ever after `detach`."""

    def __init__(self, process: Process, life: int) -> None:
        self.process = process
        self._life: int | None = life

    def detach(self) -> None:
        """The lab no longer ends with us."""
        if self._life is not None:
            os.write(self._life, init.DETACH)
            self.close()

    def close(self) -> None:
        """Let go; ends the lab unless it was detached."""
        if self._life is not None:
            os.close(self._life)
            self._life = None


def launch(name: str) -> Launched:
    """Start the init of a lab. Raises LabError with the command that would allow it where the machine refuses."""
    status_r, status_w = os.pipe()
    life_r, life_w = os.pipe()
    try:
        starter = subprocess.Popen(
            [*python_program("tulle.lab.init"), str(status_w), str(life_r), f"tulle-lab:{name}"],
            pass_fds=(status_w, life_r),
            stdin=subprocess.DEVNULL,
        )
    finally:
        os.close(status_w)
        os.close(life_r)
    try:
        pid = follow(starter.pid, status_r, life_w)
        found = start_time(pid)
        if found is None:
            raise LabError(
                f"The lab {name!r} ended while it started. Look for a kill by the system: sudo dmesg"
            )
        return Launched(Process(pid, found), life_w)
    except BaseException:
        os.close(life_w)
        raise
    finally:
        os.close(status_r)
        starter.wait(END_S)


def follow(starter: int, status: int, life: int) -> int:
    """Read the reports of the starting init, see `tulle.lab.init`. Returns its pid."""
    deadline = time.monotonic() + READY_S
    pid, pending = 0, b""
    while True:
        readable, _, _ = select.select([status], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(status, 65536) if readable else b""
        if not piece:
            raise LabError(
                "The lab's first process ended, or hung, before it was ready. "
                f"Run it again with: {sys.executable} -X faulthandler -m tulle.cli.main lab up"
            )
        *lines, pending = (pending + piece).split(b"\n")
        for line in lines:
            report = json.loads(line)
            if "failed" in report:
                raise refused(report)
            if report.get("step") == "user":
                map_ids(starter)
                os.write(life, init.MAPPED)
            pid = int(report.get("init", pid))
            if "ready" in report and pid:
                return pid


def refused(report: dict[str, Any]) -> LabError:
    return LabError(refusal.explain(report, refusal.read_facts()))


def map_ids(pid: int) -> None:
    """Root gets every id that it has itself, so that the forwarder can become somebody else; a user becomes root
    alone (user_namespaces(7))."""
    proc = Path("/proc", str(pid))
    try:
        if os.geteuid() == 0:
            for kind in ("uid_map", "gid_map"):
                ours = [line.split() for line in Path("/proc/self", kind).read_text().splitlines()]
                (proc / kind).write_text("".join(f"{inside} {inside} {count}\n" for inside, _, count in ours))
        else:
            (proc / "setgroups").write_text("deny")
            (proc / "uid_map").write_text(f"0 {os.geteuid()} 1\n")
            (proc / "gid_map").write_text(f"0 {os.getegid()} 1\n")
    except OSError as error:
        raise refused({"failed": "map", "errno": error.errno}) from error


def end(process: Process, signal_number: int = signal.SIGTERM) -> bool:
    """Signal a lab's init and wait until all of the lab has ended. Returns False where it had ended before."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not process.alive():
            return False
        os.kill(process.pid, signal_number)
        if not select.select([handle], [], [], END_S)[0]:
            raise LabError(
                f"The lab's first process {process.pid} did not end within {END_S:.0f} s. "
                f"See what holds it with: cat /proc/{process.pid}/stack"
            )
        return True
    finally:
        os.close(handle)
