"""A WireGuard node under attack: silent to who does not know its key, and of use to honest peers under a flood of
initiations from everywhere."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from tulle.lab import Lab
from tulle.lab.measure import FloodResult
from tulle.lab.plan import UNDERLAY
from tulle.testing.faults.processes import resident_bytes

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-wireguard-hostile")]

ATTACK = (sys.executable, str(Path(__file__).with_name("attack_wireguard.py")))
PORT = 51820
SEED = 7
STRANGERS = range(100, 164)
"""Host numbers on the underlay that no node has."""
RATE = 5_000.0
"""Initiations a second (issue: under that many an honest peer's handshake completes)."""
SECONDS, SOAK_SECONDS = 4.0, 20.0
TALK_RATE = 300.0
BETWEEN_S = 1.0
"""The flood is under way when a node that was not heard before begins to talk."""
GROWTH_BYTES = 8 << 20
PINGS = 5


class Outcome(NamedTuple):
    """Of one flood."""

    sent: int
    seconds: float
    talk: FloodResult
    """In a session that was there before."""
    first_answer_s: float
    """Of a node that had no session before, from its first packet to the answer."""
    rose: dict[str, int]
    """The attacked node's counters."""
    grew: int
    """Bytes of the attacked forwarder."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """n1 is attacked and talks to n2; n3 and n4 have not been heard yet."""
    return make_lab(nodes=4, pods=1, backend="wireguard")


def attack(lab: Lab, do: str, **order: Any) -> subprocess.Popen[str]:
    whole = {"do": do, "to": lab.address("n1"), "port": PORT, "seed": SEED, **order}
    return lab.popen("switch", [*ATTACK, json.dumps(whole)], stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=90)
    found: dict[str, Any] = json.loads(output)
    return found


def counters(lab: Lab) -> dict[str, int]:
    time.sleep(1.5)  # tulled asks its forwarder once a second
    found: dict[str, int] = lab.status("n1")["dataplane"]["counters"]
    return found


def test_who_does_not_know_the_public_key_gets_no_byte_back(lab: Lab) -> None:
    lab.wait_ready()
    assert lab.ping("switch", "n1") == 1  # neighbours know each other: nothing else keeps an answer back
    before = counters(lab)
    done = finish(attack(lab, "scan"))
    assert done["came back"] == 0
    after = counters(lab)
    rose = {name: after.get(name, 0) - before.get(name, 0) for name in after if name.startswith("drop-")}
    rose.pop("drop-multicast", 0)  # the kernel's own, on a device that has just come up
    assert sum(rose.values()) == done["sent"], rose


@pytest.fixture(
    scope="module",
    params=[
        (SECONDS, "n3"),
        pytest.param((SOAK_SECONDS, "n4"), marks=[pytest.mark.soak, pytest.mark.timeout(300)]),
    ],
    ids=["short", "long"],
)
def outcome(request: pytest.FixtureRequest, lab: Lab) -> Outcome:
    seconds, newcomer = request.param
    lab.wait_ready()
    assert lab.ping("n2/p1", "n1/p1", PINGS) == PINGS
    public = base64.b64decode(lab.status("n1")["backend"]["public_keys"][0]).hex()
    sources = [str(UNDERLAY[4][host]) for host in STRANGERS]
    forwarder = lab.forwarder_pid("n1")
    assert forwarder
    before, memory = counters(lab), resident_bytes(forwarder)
    with lab.flood("n2/p1", "n1/p1", count=int(TALK_RATE * (seconds + 1)), rate=TALK_RATE) as talk:
        process = attack(lab, "flood", public=public, sources=sources, rate=RATE, seconds=seconds)
        time.sleep(BETWEEN_S)
        start = time.monotonic()
        while not lab.ping(f"{newcomer}/p1", "n1/p1", 1):
            assert time.monotonic() - start < seconds + 30, "no handshake comes through"
        answered = time.monotonic() - start
        done = finish(process)
        heard = talk.finish()
    after = counters(lab)
    rose = {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name)}
    return Outcome(done["sent"], done["seconds"], heard, answered, rose, resident_bytes(forwarder) - memory)


def test_under_five_thousand_initiations_a_second_a_running_session_moves_on(
    outcome: Outcome, say: Callable[[str, object], None]
) -> None:
    say("flood", msgspec.to_builtins(outcome._asdict()))
    assert outcome.sent >= RATE * outcome.seconds * 0.9
    assert (outcome.talk.lost, outcome.talk.duplicates) == (0, 0)


def test_under_the_flood_an_honest_peer_that_is_new_gets_its_session(outcome: Outcome) -> None:
    """Ten times what one retry takes (5 s), since the machine may be busy: it came while the flood lasted, or did not
    need it to end."""
    assert outcome.first_answer_s < 50


def test_the_attack_gets_cookies_at_most_and_all_of_it_is_counted(outcome: Outcome) -> None:
    cookies = outcome.rose.get("cookie-replies", 0)
    dropped = sum(count for name, count in outcome.rose.items() if name.startswith("drop-"))
    assert dropped + cookies >= outcome.sent * 0.99
    assert outcome.grew < GROWTH_BYTES
