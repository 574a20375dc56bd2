"""How soon after a start or a death do packets flow, and what memory does it take?

Two nodes with etcd. A tulled that ended, was killed, or has lost its forwarder too, is started again, and has a lease
already; the time runs from the command to a status that says ready with the other node known and applied. Then a
forwarder is killed during a flood: what counts is the longest silence at the receiver, beside a flood that nobody
disturbs. Beside the starts: the time that python takes to import what tulled imports.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Aim, Effort, Result, Turns
from benchmarks.processes import resident_mb
from tulle.lab import Lab
from tulle.lab.daemons import is_ready
from tulle.lab.errors import LabError
from tulle.lab.plan import RUN_DIR
from tulle.node.client import ApiError, Client, NotRunning
from tulle.worker.supervise import STABLE_S

QUESTION = "How soon after a start or a death do packets flow, and what memory does it take?"

START, SILENCE, MEMORY = "tulled ready", "longest silence in a flood", "memory"
IMPORTS, AFTER_TERM, AFTER_KILL, ALL_NEW = (
    "imports alone",
    "after SIGTERM",
    "after SIGKILL",
    "forwarder killed too",
)
UNDISTURBED, SENDERS, RECEIVERS = "undisturbed", "sender's forwarder killed", "receiver's forwarder killed"
FLOOD_COUNT, FLOOD_RATE = 10_000, 5_000.0
KILL_AFTER_S = 0.5
AIM_S, FORWARDER_MB, TULLED_MB = 1.0, 60.0, 90.0
READY_S = 30.0
POLL_S = 0.005
TULLED_IMPORTS = "import tulle.node.main, tulle.node.daemon, tulle_etcd.store, pyroute2"


def measure(effort: Effort) -> Result:
    turns = Turns()
    counts: dict[str, int] = {}
    with Lab(nodes=2, pods=1, store="etcd", engine="python") as lab:
        for turn in range(effort.turns):
            if turn:
                # A forwarder that dies again sooner than this is started again later, on purpose.
                time.sleep(STABLE_S)
            turns.add(START, IMPORTS, imports_s())
            for subject in (AFTER_TERM, AFTER_KILL, ALL_NEW):
                turns.add(START, subject, restart_s(lab, subject))
            for subject, node in ((UNDISTURBED, ""), (SENDERS, "n1"), (RECEIVERS, "n2")):
                lab.wait_ready()
                flood(lab, effort, turns, counts, subject, node)
            lab.wait_ready()
            remember_memory(lab, turns)
    figures = [
        turns.figure(
            START, "s", "lower", baseline=IMPORTS, aims=[Aim(AFTER_TERM, AIM_S), Aim(AFTER_KILL, AIM_S)]
        ),
        turns.figure(
            SILENCE, "s", "lower", baseline=UNDISTURBED, aims=[Aim(SENDERS, AIM_S), Aim(RECEIVERS, AIM_S)]
        ),
        turns.figure(
            MEMORY, "MB resident", "lower", aims=[Aim("forwarder", FORWARDER_MB), Aim("tulled", TULLED_MB)]
        ),
    ]
    return Result(figures, counts, ["a start includes entering the lab's namespaces, about 0.03 s"])


def imports_s() -> float:
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", TULLED_IMPORTS], check=True, stdin=subprocess.DEVNULL)
    return time.monotonic() - start


def restart_s(lab: Lab, subject: str) -> float:
    """End n1's tulled, start it, and wait until it is ready. Raises LabError."""
    lab.kill_tulled("n1", signal.SIGKILL if subject == AFTER_KILL else signal.SIGTERM)
    if subject == ALL_NEW:
        lab.kill_forwarder("n1")
    start = time.monotonic()
    lab.start_tulled("n1")
    pid = lab.tulled_pid("n1")
    while not ready(pid):
        if pid is None or time.monotonic() - start > READY_S:
            raise LabError(f"n1 is not ready again {subject}. Its log ends:\n{lab.log_tail('n1')}")
        time.sleep(POLL_S)
    return time.monotonic() - start


def ready(pid: int | None) -> bool:
    """Asked by pid: to look for it among all processes takes longer than the answer."""
    try:
        return is_ready(Client(Path(f"/proc/{pid}/root{RUN_DIR}")).get("status"), others=1)
    except (NotRunning, ApiError):
        return False


def flood(lab: Lab, effort: Effort, turns: Turns, counts: dict[str, int], subject: str, node: str) -> None:
    """One flood from n1's pod to n2's; the forwarder of `node`, if any, is killed in its middle."""
    count = effort.of(FLOOD_COUNT, FLOOD_COUNT // 2)
    with lab.flood("n1/p1", "n2/p1", count=count, rate=FLOOD_RATE) as running:
        time.sleep(KILL_AFTER_S)
        if node:
            lab.kill_forwarder(node)
        found = running.finish()
    turns.add(SILENCE, subject, found.longest_gap_ms / 1000)
    for name, value in (("sent", found.sent), ("received", found.received), ("lost", found.lost)):
        key = f"{subject}: {name}"
        counts[key] = counts.get(key, 0) + value


def remember_memory(lab: Lab, turns: Turns) -> None:
    for subject, pid in (("forwarder", lab.forwarder_pid("n2")), ("tulled", lab.tulled_pid("n2"))):
        if pid is not None:
            turns.add(MEMORY, subject, resident_mb(pid))
