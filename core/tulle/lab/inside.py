"""A running lab, seen from outside: its places and addresses, programs run in it, its processes and files.

`Inside` is the part of `Lab` that needs nothing but the lab's first process and its plan.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.lab.errors import LabError
from tulle.lab.init import LAB_DIR
from tulle.lab.launch import python_program
from tulle.lab.namespaces import KINDS
from tulle.lab.plan import SWITCH_HOST, NodeNet, Place, Plan, parse_place
from tulle.lab.registry import Process

RUN_TIMEOUT_S = 60.0

STOP_S = 2.0
"""For a program to end after SIGTERM."""

TAIL_LINES = 15
"""Of a program's output, in an error."""


@dataclass(frozen=True)
class Resident:
    """A process of the lab."""

    pid: int
    """Outside, where we are: it can be signalled and looked at in /proc."""
    argv: tuple[str, ...]
    place: Place


class Inside:
    """See the module. A place is "n1" (a node), "n1/p2" (a pod) or "switch" (the wire between the nodes)."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.nets: Mapping[str, NodeNet] = {}
        """What each node's subnet.env said when its pods were made; empty until then."""
        self._init: Process | None = None

    @property
    def init(self) -> Process:
        """The lab's first process. Raises LabError where the lab is down."""
        if self._init is None or not self._init.alive():
            raise LabError(f"The lab {self.plan.name!r} is not up. See which ones are with: tulle lab list")
        return self._init

    @property
    def directory(self) -> Path:
        """The lab's own directory (LAB_DIR), as a path outside."""
        return Path(f"/proc/{self.init.pid}/root{LAB_DIR}")

    # Places

    def place(self, text: str) -> Place:
        """Raises LabError where this lab has no such place."""
        place = parse_place(text)
        self.plan.check_place(place)
        return place

    def address(self, place: str, family: int | None = None) -> str:
        """The address of a pod, or of a node or the switch on the underlay; by default of the first family that the
        lab uses."""
        where = self.place(place)
        if where.pod and where.node not in self.nets:
            raise LabError(f"The pods of {where.node} are not made yet: the lab is still coming up.")
        if where.pod:
            found = self.nets[where.node].pod(self.plan.pod_names.index(where.pod) + 1)
        elif where.node:
            found = self.plan.node_underlay(where.node)
        else:
            found = self.plan.underlay(SWITCH_HOST)
        wanted = family or self.plan.families[0]
        for interface in found:
            if interface.version == wanted:
                return str(interface.ip)
        raise LabError(f"{place} has no IPv{wanted} address in a lab of --family {self.plan.family}.")

    # Programs

    def command(self, place: str, argv: Sequence[str], *, log: str | None = None) -> list[str]:
        """A command line for outside that runs `argv` there (see `tulle.lab.enter`); with `log`, detached."""
        detach = [] if log is None else ["--detach", log]
        pairs = [f"{kind}={path}" for kind, path in self._namespaces(self.place(place)).items()]
        return [*python_program("tulle.lab.enter"), *pairs, *detach, "--", *argv]

    def run(
        self,
        place: str,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = RUN_TIMEOUT_S,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there to its end, its output as text. Raises LabError where it does not end in `timeout`
        seconds or, with `check`, where its exit status is not 0."""
        process = self.popen(
            place,
            argv,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            output, errors = process.communicate(input, timeout)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{' '.join(argv)!r} in {place} did not end within {timeout:g} s.") from error
        finally:
            stop(process)
        done = subprocess.CompletedProcess(list(argv), process.returncode, output, errors)
        if check and done.returncode != 0:
            said = tail(done.stderr or done.stdout)
            raise LabError(f"{' '.join(argv)!r} in {place} ended with status {done.returncode}:\n{said}")
        return done

    def popen(self, place: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program there; `options` are Popen's. SIGTERM and the like reach it, and SIGKILL ends it too."""
        return subprocess.Popen(self.command(place, argv), **options)

    def detached(self, place: str, argv: Sequence[str], log: str) -> None:
        """Start a program there that is the lab's own child; `log` is a path there. Raises LabError where it cannot
        be executed."""
        command = self.command(place, argv, log=log)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(
                f"{argv[0]!r} cannot be started in {place}: {done.stderr or self.read_file(place, log)}"
            )

    # Files and processes

    def read_file(self, place: str, path: str) -> str:
        """A file as it is seen there."""
        return self.run(place, ["cat", "--", path]).stdout

    def write_file(self, place: str, path: str, text: str) -> None:
        """Replace a file's text there."""
        self.run(place, ["sh", "-c", 'cat > "$0"', path], input=text)

    def residents(self) -> list[Resident]:
        """The processes that live in the lab now, without its init."""
        init = self.init.pid
        ours = namespace_of(init, "pid")
        places = self._places()
        found = []
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                if pid == init or namespace_of(pid, "pid") != ours:
                    continue
                words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
                place = places.get(namespace_of(pid, "net"), Place())
            except OSError:
                continue  # it has ended, or is not ours to look at
            if words:  # a zombie has none
                found.append(Resident(pid, tuple(words.split("\0")), place))
        return found

    def _namespaces(self, place: Place) -> dict[str, str]:
        """Kind -> path outside, of everything that is to be entered to be there."""
        paths = {kind: f"/proc/{self.init.pid}/ns/{kind}" for kind in KINDS}
        kept = self.directory / "ns"
        if place.node:
            paths |= {kind: str(kept / f"{place.node}.{kind}") for kind in ("net", "uts", "mnt")}
        if place.pod:
            paths["net"] = str(kept / f"{place.node}.{place.pod}.net")
        return paths

    def _places(self) -> dict[int, Place]:
        """Network namespace -> whose it is."""
        found = {}
        for path in (self.directory / "ns").glob("*.net"):
            node, _, rest = path.name.removesuffix(".net").partition(".")
            found[path.stat().st_ino] = Place(node, rest)
        return found


def namespace_of(pid: int, kind: str) -> int:
    """What tells one namespace from another. Raises OSError where the process has ended or is not ours."""
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def stop(process: subprocess.Popen[Any]) -> None:
    """End a program that still runs, and close its pipes. By SIGTERM first: a program whose way in was killed is no
    child of anybody in the lab, and the lab's end waits for whoever reaps it outside."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.communicate()


def tail(text: str) -> str:
    """The last lines of a program's output, indented."""
    lines = text.rstrip().splitlines()[-TAIL_LINES:] or ["(it wrote nothing)"]
    return "\n".join(f"    {line}" for line in lines)
