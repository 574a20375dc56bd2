"""`tulle lab demo`, which is `make run`: a cluster in front of your eyes, with every claim checked.

A check that fails raises LabError; the lab is taken down whatever happens.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tulle.lab.cluster import Lab
from tulle.lab.errors import LabError
from tulle.lab.plan import NO_BACKEND, Plan
from tulle.lab.stores import TULLE

MOVED_BYTES = 64 << 20
FLOOD_COUNT = 20_000
FLOOD_RATE = 5_000.0
KILL_AFTER_S = 0.5
PINGS = 3

VICTIM = "n1"
FROM, TO = "n1/p1", "n2/p1"

NEXT = """\
{tulle} lab up{flags}
    the same, and it stays; it prints each pod's address
{tulle} lab exec n1/p1 -- ping ADDRESS
{tulle} lab exec n1 -- tulle status
    what a node knows
{tulle} lab down
{tulle} lab up --family dual --nodes 5"""
NEXT_REAL = """\
{tulle} init --network 10.42.0.0/16 --etcd-endpoints http://ETCD:2379
{tulled} --etcd-endpoints http://ETCD:2379      as root, on each node"""

Say = Callable[[str], None]


def run(lab: Lab, title: Say, line: Say) -> None:
    """Show it all with a lab that is not up yet. `title` is told what each step is for, `line` what came of it."""
    if lab.plan.backend == NO_BACKEND:
        raise LabError("There is nothing to show without a backend: give another --backend.")
    started = time.monotonic()
    title(f"Building {lab.plan.nodes} nodes with {lab.plan.pods} pods each, in namespaces of this machine:")
    lab.up(said=line)
    try:
        line(f"up after {time.monotonic() - started:.1f} s; the host's own network is untouched")
        show_leases(lab, title, line)
        ping_everybody(lab, title, line)
        move_data(lab, title, line)
        kill_tulled(lab, title, line)
        restart_tulled(lab, title, line)
    finally:
        title("Taking everything down:")
        lab.down()
        line("one signal to the lab's first process; the kernel removed the rest with it")
    programs = {"tulle": called("tulle"), "tulled": called("tulled")}
    title(f"Done in {time.monotonic() - started:.1f} s. Try next:")
    for text in NEXT.format(**programs, flags=flags(lab.plan)).splitlines():
        line(text)
    title("And on real machines, with one etcd for all:")
    for text in NEXT_REAL.format(**programs).splitlines():
        line(text)


def flags(plan: Plan) -> str:
    """What of a lab's command line is not left to its defaults, as it is typed after `tulle lab up`."""
    usual = Plan(name="")
    words = [
        (f"--{name}", str(getattr(plan, name)))
        for name in ("backend", "engine", "store", "family")
        if getattr(plan, name) != getattr(usual, name)
    ]
    words += [
        ("--backend-option", f"{key}={value if isinstance(value, str) else json.dumps(value)}")
        for key, value in plan.backend_options.items()
    ]
    return "".join(f" {name} {shlex.quote(value)}" for name, value in words)


def show_leases(lab: Lab, title: Say, line: Say) -> None:
    title("Each node took a subnet of the cluster network and keeps it as a lease in the store:")
    for text in lab.run(VICTIM, [*TULLE, "leases"]).stdout.splitlines():
        line(text)
    status = lab.status(VICTIM)
    plane, backend = status["dataplane"], status["backend"]["type"]
    carrier = f"the {plane['engine']} engine ({plane['engine_because']})" if plane["engine"] else "the kernel"
    line(f"the backend is {backend}; packets are carried by {carrier}")


def ping_everybody(lab: Lab, title: Say, line: Say) -> None:
    title("Every pod pings every other pod, at its own address, without translation:")
    for family in lab.plan.families:
        answers = lab.ping_all(PINGS, family=family)
        silent = [f"{source} to {target}" for (source, target), count in answers.items() if count < PINGS]
        line(f"{len(answers) - len(silent)} of {len(answers)} pairs answer {PINGS} of {PINGS} (IPv{family})")
        if silent:
            raise LabError(f"These pings were not all answered: {', '.join(silent)}.{look(lab)}")


def move_data(lab: Lab, title: Say, line: Say) -> None:
    title(f"{FROM} sends {MOVED_BYTES >> 20} MB to {TO} over TCP; both ends take the SHA-256:")
    moved = lab.transfer(FROM, TO, MOVED_BYTES)
    line(
        f"{'unchanged' if moved.unchanged else 'CHANGED'}, {moved.gbit_s:.2f} Gb/s in {moved.duration_s:.1f} s"
    )
    if not moved.unchanged:
        raise LabError(f"The bytes that arrived at {TO} are not those that {FROM} sent.{look(lab)}")


def kill_tulled(lab: Lab, title: Say, line: Say) -> None:
    carrier = "the kernel" if lab.forwarder_pid(VICTIM) is None else "its forwarder"
    title(
        f"{FROM} sends {FLOOD_COUNT} numbered datagrams to {TO} while the tulled of {VICTIM} is killed (-9); "
        f"{carrier} goes on:"
    )
    with lab.flood(FROM, TO, count=FLOOD_COUNT, rate=FLOOD_RATE) as flood:
        time.sleep(KILL_AFTER_S)
        lab.kill_tulled(VICTIM)
        result = flood.finish()
    line(
        f"{result.sent} sent, {result.received} received, {result.lost} lost; "
        f"longest pause {result.longest_gap_ms:.0f} ms"
    )
    if result.lost:
        own = (
            f" ({result.socket_drops} of them by the counting program itself)" if result.socket_drops else ""
        )
        raise LabError(f"{result.lost} datagrams were lost{own}.{look(lab)}")


def restart_tulled(lab: Lab, title: Say, line: Say) -> None:
    subnets, forwarder = lab.nets[VICTIM], lab.forwarder_pid(VICTIM)
    adopted = (
        "finds its lease again" if forwarder is None else "finds its lease and adopts the forwarder that runs"
    )
    title(f"The tulled of {VICTIM} starts again, {adopted}:")
    started = time.monotonic()
    lab.start_tulled(VICTIM)
    lab.wait_ready()
    line(f"ready after {time.monotonic() - started:.1f} s, subnet {', '.join(subnets.gateways)}")
    if lab.wait_subnets()[VICTIM] != subnets:
        raise LabError(f"{VICTIM} came back with another subnet.{look(lab)}")
    if lab.forwarder_pid(VICTIM) != forwarder:
        raise LabError(f"{VICTIM} did not keep its forwarder, process {forwarder}.{look(lab)}")
    if lab.ping(FROM, TO) != 1:
        raise LabError(f"{FROM} no longer reaches {TO}.{look(lab)}")


def called(program: str) -> str:
    """How the user can call one of our programs: by its name where that works, else by its path."""
    ours = Path(sys.executable).parent / program
    if shutil.which(program) == str(ours) or not ours.exists():
        return program
    here = Path.cwd()
    below = ours.is_relative_to(here) and here != Path("/")
    return os.path.join(".", os.path.relpath(ours)) if below else str(ours)


def look(lab: Lab) -> str:
    """Ends an error: what the daemons said."""
    logs = "".join(f"\n{node}'s log ends:\n" + lab.log_tail(node) for node in lab.plan.node_names)
    return f" To look around, run: tulle lab up.{logs}"
