"""A new forwarder takes over from the one that runs, under traffic both ways, and not one packet is lost."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tulle.forward.python_engine import BATCH
from tulle.lab import Lab
from tulle.lab.daemons import is_forwarder
from tulle.lab.measure import Flood
from tulle.lab.registry import Registry
from tulle.node.dataplane import STATS_S

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-handover")]

OLDER = "import tulle.worker.messages as messages; messages.PROTOCOLS = (1,); "
"""The version table of the release before."""
OLDER_FORWARDER = OLDER + "from tulle.forward.main import main; main()"
OLDER_TULLED = (
    *(sys.executable, "-c"),
    f"{OLDER}from tulle.node import dataplane; "
    f"dataplane.FORWARDER = (*dataplane.FORWARDER[:1], '-c', {OLDER_FORWARDER!r}); "
    "from tulle.node.main import main; main()",
)
ASKED_BY_SIGNAL = """
import asyncio, signal
from tulle.node.dataplane import UserSpace
from tulle.node.main import main

begin, asked = UserSpace._start, []

async def start(self, *arguments):
    await begin(self, *arguments)
    loop = asyncio.get_running_loop()
    supervisor, ask = self._supervisor, lambda: asked.append(loop.create_task(self.replace()))
    loop.add_signal_handler(signal.SIGUSR1, ask)

    def ask_for_the_impossible():
        right = supervisor._argv
        supervisor._argv = [*right, "--no-such-flag"]
        ask()
        asked[-1].add_done_callback(lambda _: setattr(supervisor, "_argv", right))

    loop.add_signal_handler(signal.SIGUSR2, ask_for_the_impossible)

UserSpace._start = start
"""
STRUCK = """
import os
from pathlib import Path
from tulle.worker.handover import Handover
from tulle.worker.supervise import Supervisor

release, take_over, handed_over = Handover.release, UserSpace._take_over, Supervisor._handed_over

def strike(step, handover):
    fault = Path("/run/fault")
    if handover.old is not None and fault.exists() and fault.read_text().startswith(step):
        os.kill(handover.old.hello.pid, int(fault.read_text().split()[-1]))
        fault.unlink()

async def struck_release(self, question):
    if Path("/run/fault").exists() and Path("/run/fault").read_text() == "pause":
        Path("/run/fault").unlink()
        await asyncio.sleep(1.0)
    strike("before its state", self)
    state = await release(self, question)
    strike("after its state", self)
    return state

async def struck_take_over(self, session, handover):
    await take_over(self, session, handover)
    strike("after the descriptors", handover)

def struck_end(self, handover):
    strike("before its end", handover)
    handed_over(self, handover)

Handover.release, UserSpace._take_over, Supervisor._handed_over = struck_release, struck_take_over, struck_end
"""
TULLED = (sys.executable, "-c", ASKED_BY_SIGNAL + STRUCK + "main()")
"""Of today; SIGUSR1 asks it for a hand-over, SIGUSR2 for one to a forwarder that cannot start. /run/fault ("STEP
SIGNAL") has the old forwarder of the next hand-over struck at that step; "pause" has it wait for a second."""
STEPS = ("before its state", "after its state", "after the descriptors", "before its end")

RATE = 2_000.0
"""Each way, a second: what the Python engine carries several times over on a quiet machine."""
EACH_S = 1.5
"""For a hand-over under load: a new forwarder loads in about 0.4 s."""
BEFORE_S, AFTER_S = 0.3, 0.5
AIM_MS = 10.0
STRUCK_RATE = 1_000.0
COUNTED = 20


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, pods=1, tulled=TULLED)


def forwarders(lab: Lab) -> list[int]:
    """Of n1."""
    return [one.pid for one in lab.residents() if one.place.node == "n1" and is_forwarder(one.argv)]


def pauses_ms(lab: Lab) -> list[float]:
    """Of all hand-overs that n1 has logged."""
    return [float(one) for one in re.findall(r"worker-handed-over .* ms=([\d.]+)", lab.logs("n1"))]


def flood_both_ways(lab: Lab, stack: ExitStack, seconds: float, rate: float = RATE) -> list[Flood]:
    count = int(rate * seconds)
    ways = (("n1/p1", "n2/p1"), ("n2/p1", "n1/p1"))
    return [stack.enter_context(lab.flood(*way, count=count, rate=rate)) for way in ways]


def assert_nothing_lost(floods: list[Flood], say: Callable[[str, object], None]) -> None:
    for way, flood in zip(("out", "in"), floods, strict=True):
        result = flood.finish()
        say(f"flood-{way}", result)
        assert (result.lost, result.duplicates) == (0, 0), result


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
def test_no_packet_is_lost_over_hand_overs(
    lab: Lab,
    times: int,
    hands: Callable[[Lab], Any],
    eventually: Callable[..., Any],
    say: Callable[[str, object], None],
) -> None:
    device, restarts = hands(lab).links("n1")["tulle0"], lab.status("n1")["dataplane"]["forwarder_restarts"]
    before, seen = len(pauses_ms(lab)), set(forwarders(lab))
    with ExitStack() as stack:
        floods = flood_both_ways(lab, stack, BEFORE_S + times * EACH_S + AFTER_S)
        time.sleep(BEFORE_S)
        for done in range(1, times + 1):
            lab.kill_tulled("n1", signal.SIGUSR1)
            eventually(lambda done=done: len(pauses_ms(lab)) == before + done)
            eventually(lambda: len(forwarders(lab)) == 1)
            seen |= set(forwarders(lab))
        assert_nothing_lost(floods, say)
    pauses = pauses_ms(lab)[before:]
    say("pauses-ms", pauses)
    say("pause-aim-ms", AIM_MS)
    assert len(seen) == times + 1  # each was another process
    assert hands(lab).links("n1")["tulle0"] == device
    lab.wait_ready()
    assert lab.status("n1")["dataplane"]["forwarder_restarts"] == restarts


def test_counters_go_on_where_the_old_one_stopped(lab: Lab, hands: Callable[[Lab], Any]) -> None:
    assert lab.ping("n2/p1", "n1/p1", COUNTED) == COUNTED
    time.sleep(STATS_S + 0.5)  # tulled asks once a second
    before = lab.status("n1")
    lowest = dict(before["dataplane"]["counters"])
    lab.run("n1", ["tee", "/run/fault"], input="pause")
    with ThreadPoolExecutor(1) as pool:
        replacing = pool.submit(hands(lab).tulle, "n1", "forwarder", "replace")
        end = float("inf")
        while time.monotonic() < end:  # never lower in between, either
            counters = lab.status("n1")["dataplane"]["counters"]
            assert all(counters.get(name, 0) >= value for name, value in lowest.items()), (lowest, counters)
            lowest = dict(counters)
            if replacing.done() and end == float("inf"):
                end = time.monotonic() + 1.5 * STATS_S
            time.sleep(0.02)
    assert lab.ping("n2/p1", "n1/p1", COUNTED) == COUNTED
    time.sleep(STATS_S + 0.5)
    found = lab.status("n1")
    assert found["dataplane"]["forwarder_pid"] != before["dataplane"]["forwarder_pid"]
    for name in ("packets-in", "packets-out"):
        assert found["dataplane"]["counters"][name] >= before["dataplane"]["counters"][name] + COUNTED
    for name in ("packets_in", "packets_out"):
        was, now = (one["peers"][0]["traffic"][name] for one in (before, found))
        assert now >= was + COUNTED


def test_a_hand_over_is_asked_for_on_the_command_line(
    lab: Lab, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    (old,), before = forwarders(lab), len(pauses_ms(lab))
    said = hands(lab).tulle("n1", "forwarder", "replace").stdout
    assert re.fullmatch(r"forwarder \d+ took over from \d+; packets waited for [\d.]+ ms at most\n", said)
    assert len(pauses_ms(lab)) == before + 1
    eventually(lambda: len(forwarders(lab)) == 1)
    assert forwarders(lab) != [old]
    assert lab.ping("n2/p1", "n1/p1", 3) == 3


def test_the_node_is_ready_all_the_while(lab: Lab, eventually: Callable[..., Any]) -> None:
    before = len(pauses_ms(lab))
    lab.kill_tulled("n1", signal.SIGUSR1)
    asked = 0
    while len(pauses_ms(lab)) == before:
        status = lab.status("n1")
        assert (status["ready"], status["not_ready_because"]) == (True, [])
        asked += 1
    assert asked > 3
    eventually(lambda: len(forwarders(lab)) == 1)


def test_the_next_tulled_adopts_the_one_that_took_over(lab: Lab) -> None:
    forwarder = lab.forwarder_pid("n1")
    lab.kill_tulled("n1")
    lab.start_tulled("n1")
    lab.wait_ready()
    assert lab.forwarder_pid("n1") == forwarder
    assert "adopted=True" in [line for line in lab.logs("n1").splitlines() if "worker-running" in line][-1]


@pytest.mark.parametrize(
    ("number", "each_s"), [(signal.SIGKILL, 1.0), (signal.SIGSTOP, 2.5)], ids=["killed", "stopped"]
)
def test_whenever_the_old_one_dies_or_hangs_the_new_one_works(
    lab: Lab,
    hands: Callable[[Lab], Any],
    eventually: Callable[..., Any],
    say: Callable[[str, object], None],
    number: signal.Signals,
    each_s: float,
) -> None:
    restarts, seen = lab.status("n1")["dataplane"]["forwarder_restarts"], forwarders(lab)
    with ExitStack() as stack:
        floods = flood_both_ways(lab, stack, len(STEPS) * each_s, STRUCK_RATE)
        for step in STEPS:
            lab.run("n1", ["tee", "/run/fault"], input=f"{step} {int(number)}")
            began = time.monotonic()
            said = hands(lab).tulle("n1", "forwarder", "replace").stdout
            say(f"{step}: answered-after-s", round(time.monotonic() - began, 2))
            assert said.startswith("forwarder "), said
            assert not hands(lab).exists("n1", "/run/fault")
            eventually(lambda: len(forwarders(lab)) == 1)
            seen += forwarders(lab)
        results = [flood.finish() for flood in floods]
    say("floods", results)
    assert len(set(seen)) == len(STEPS) + 1
    # What it had read and not yet sent is gone with it: one batch. Device and socket hold the rest.
    assert max(one.lost for one in results) <= BATCH * len(STEPS), results
    lab.wait_ready()
    assert lab.ping("n2/p1", "n1/p1", 3) == 3
    assert lab.status("n1")["dataplane"]["forwarder_restarts"] == restarts


@pytest.fixture
def older(registry: Registry) -> Iterator[Lab]:
    """Its tulleds and forwarders speak the protocol of the release before; all else is of today."""
    with Lab(nodes=2, pods=1, tulled=OLDER_TULLED, registry=registry) as lab:
        yield lab


def test_no_packet_is_lost_where_the_old_forwarder_speaks_the_older_protocol(
    older: Lab, registry: Registry, eventually: Callable[..., Any], say: Callable[[str, object], None]
) -> None:
    today = Lab.attach(older.plan.name, registry=registry)
    old = forwarders(older)
    with ExitStack() as stack:
        floods = flood_both_ways(today, stack, 4.0)
        time.sleep(BEFORE_S)
        older.kill_tulled("n1")
        today.start_tulled("n1")
        eventually(lambda: len(pauses_ms(today)) == 1)
        assert_nothing_lost(floods, say)
    say("pauses-ms", pauses_ms(today))
    log = today.logs("n1")
    (differs,) = [line for line in log.splitlines() if "worker-differs" in line]
    assert re.search(r"has=('.*') protocols=\[1\] wanted=\1 ", differs), differs  # nothing else differs
    eventually(lambda: len(forwarders(today)) == 1)
    assert forwarders(today) != old
    today.wait_ready()


def test_a_forwarder_that_cannot_start_leaves_the_old_one_at_work(
    lab: Lab, eventually: Callable[..., Any], say: Callable[[str, object], None]
) -> None:
    old, before = forwarders(lab), len(pauses_ms(lab))
    with ExitStack() as stack:
        floods = flood_both_ways(lab, stack, 2.0)
        time.sleep(BEFORE_S)
        lab.kill_tulled("n1", signal.SIGUSR2)
        eventually(lambda: "unrecognized arguments: --no-such-flag" in lab.logs("n1"))
        assert_nothing_lost(floods, say)
    assert forwarders(lab) == old
    assert len(pauses_ms(lab)) == before
    assert lab.status("n1")["ready"]
