"""A hostile host on the underlay sends everything that is wrong, as fast as it can, while pods talk: each datagram's
fate is counted, nothing grows, nothing ends, and the talk goes on."""

from __future__ import annotations

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

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-hostile")]

ATTACK = (sys.executable, str(Path(__file__).with_name("attack.py")))
PORT = 8285
SEED = 5
STRANGERS = range(100, 164)
"""Host numbers on the underlay that no node has."""
WARM_S = 0.5
"""Of the same attack before memory is looked at: caches and buffers have their size then."""
SECONDS, SOAK_SECONDS = 2.0, 20.0
TALK_RATE = 500.0
"""Datagrams a second each way: what is asked is whether they pass, not how many could."""
GROWTH_BYTES = 8 << 20
LOG_LINES = 20
"""Of tulled and forwarder together, for however many hostile datagrams."""
COUNTED_S = 10.0


class Standing(NamedTuple):
    """What is to be the same before and after, or to rise by what was sent."""

    counters: dict[str, int]
    socket_drops: int
    """Of the tunnel's socket: its buffer was full."""
    link_drops: int
    """Of the switch's port to the node: its queue was full."""
    reassembled: int
    """Datagrams that the node's kernel put together from fragments."""
    processes: tuple[int | None, int | None]
    memory: tuple[int, int]
    descriptors: tuple[int, int]
    log_lines: int


class Outcome(NamedTuple):
    """Of one attack."""

    sent: dict[str, int]
    """By kind, see `attack.py`."""
    before: Standing
    after: Standing
    inbound: FloodResult
    """To a pod of the attacked node."""
    outbound: FloodResult

    def rose(self, name: str) -> int:
        return self.after.counters.get(name, 0) - self.before.counters.get(name, 0)

    def figures(self) -> dict[str, Any]:
        """For people."""
        names = {name for name in self.after.counters if self.rose(name)}
        return {
            "sent": self.sent,
            "counted": {name: self.rose(name) for name in sorted(names)},
            "socket drops": self.socket_drops,
            "link drops": self.link_drops,
            "reassembled": self.after.reassembled - self.before.reassembled,
            "memory grew, bytes": [
                new - old for old, new in zip(self.before.memory, self.after.memory, strict=True)
            ],
            "talk in": msgspec.to_builtins(self.inbound),
            "talk out": msgspec.to_builtins(self.outbound),
        }

    @property
    def socket_drops(self) -> int:
        return self.after.socket_drops - self.before.socket_drops

    @property
    def link_drops(self) -> int:
        return self.after.link_drops - self.before.link_drops


@pytest.fixture(scope="module", params=["4", pytest.param("6", marks=pytest.mark.soak)])
def lab(request: pytest.FixtureRequest, make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=3, pods=1, family=request.param)


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, float], Outcome]:
    """By family and seconds."""
    return {}


@pytest.fixture(
    params=[SECONDS, pytest.param(SOAK_SECONDS, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]
)
def outcome(
    request: pytest.FixtureRequest, lab: Lab, hands: Callable[[Lab], Any], outcomes: dict[Any, Outcome]
) -> Outcome:
    key = (lab.plan.family, request.param)
    if key not in outcomes:
        outcomes[key] = attacked(lab, hands(lab), request.param)
        print(json.dumps(outcomes[key].figures()))
    return outcomes[key]


def attacked(lab: Lab, node: Any, seconds: float) -> Outcome:
    lab.wait_ready()
    assert lab.ping("switch", "n1") == 1  # neighbours know each other
    fire(lab, WARM_S).communicate(timeout=60)
    before = standing(lab, node)
    count = int(TALK_RATE * (seconds + 1))
    with (
        lab.flood("n2/p1", "n1/p1", count=count, rate=TALK_RATE) as inbound,
        lab.flood("n1/p1", "n3/p1", count=count, rate=TALK_RATE) as outbound,
    ):
        with fire(lab, seconds) as attacker:
            output, _ = attacker.communicate(timeout=seconds + 60)
        heard, said = inbound.finish(), outbound.finish()
    return Outcome(json.loads(output), before, standing(lab, node), heard, said)


def fire(lab: Lab, seconds: float) -> subprocess.Popen[str]:
    pods = {"mine": "n1/p1", "peers": "n2/p1", "others": "n3/p1"}
    order = {
        "to": lab.address("n1"),
        "port": PORT,
        "peer": lab.address("n2"),
        "pods": {name: lab.address(pod) for name, pod in pods.items()},
        "strangers": [str(UNDERLAY[lab.plan.families[0]][host]) for host in STRANGERS],
        "seconds": seconds,
        "seed": SEED,
    }
    return lab.popen("switch", [*ATTACK, json.dumps(order)], stdout=subprocess.PIPE, text=True)


def standing(lab: Lab, node: Any) -> Standing:
    """When all that was sent has been counted."""
    tulled, forwarder = lab.tulled_pid("n1"), lab.forwarder_pid("n1")
    assert tulled
    assert forwarder
    return Standing(
        settled_counters(node),
        socket_drops(lab),
        link_drops(lab),
        reassembled(lab),
        (tulled, forwarder),
        (resident_bytes(tulled), resident_bytes(forwarder)),
        (descriptors(tulled), descriptors(forwarder)),
        len(lab.logs("n1").splitlines()) + len(lab.read_file("n1", "/run/tulle/forwarder.log").splitlines()),
    )


def settled_counters(node: Any) -> dict[str, int]:
    """tulled asks once a second: what it hears twice, a second and more apart, is all."""
    last: dict[str, int] = {}
    deadline = time.monotonic() + COUNTED_S
    while time.monotonic() < deadline:
        time.sleep(2.2)
        found = node.counters("n1")
        if found == last:
            return dict(found)
        last = found
    raise AssertionError(f"the counters do not come to rest: {last}")


def socket_drops(lab: Lab) -> int:
    """The last column of proc_pid_net's udp."""
    table = "/proc/net/udp" if 4 in lab.plan.families else "/proc/net/udp6"
    rows = [line.split() for line in lab.read_file("n1", table).splitlines()[1:]]
    (drops,) = [int(row[-1]) for row in rows if row[1].endswith(f":{PORT:04X}")]
    return drops


def link_drops(lab: Lab) -> int:
    (link,) = json.loads(lab.run("switch", ["ip", "-json", "-stats", "link", "show", "to-n1"]).stdout)
    return int(link["stats64"]["tx"]["dropped"])


def reassembled(lab: Lab) -> int:
    if 6 in lab.plan.families:
        rows = dict(line.split() for line in lab.read_file("n1", "/proc/net/snmp6").splitlines())
        return int(rows["Ip6ReasmOKs"])
    names, values = (
        line.split() for line in lab.read_file("n1", "/proc/net/snmp").splitlines() if line.startswith("Ip:")
    )
    return int(dict(zip(names, values, strict=True))["ReasmOKs"])


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


DROPS = ("drop-unknown-peer", "drop-source", "drop-destination", "drop-bad-inner")


def test_every_datagram_of_the_attack_is_counted_under_a_reason(outcome: Outcome) -> None:
    """By the engine, or as dropped by the kernel before it; a jumbo counts where it was put together."""
    assert min(outcome.sent.values()) > 0
    whole = sum(count for kind, count in outcome.sent.items() if kind not in ("jumbo", "pieces"))
    came = whole + outcome.after.reassembled - outcome.before.reassembled
    counted = sum(map(outcome.rose, DROPS))
    # A train of the talk may be among what the socket dropped, and counts once.
    lost = outcome.inbound.lost
    most = came - counted
    least = most - outcome.link_drops
    assert least <= outcome.socket_drops <= most + lost, outcome
    assert outcome.socket_drops or outcome.link_drops or counted == came


def test_each_kind_is_dropped_for_its_own_reason(outcome: Outcome) -> None:
    """Nothing is delivered but the talk; none of a kind is counted as another."""
    sent, reasons = outcome.sent, {name: outcome.rose(name) for name in DROPS}
    kinds = {
        "drop-unknown-peer": sent["stranger"] + sent["empty"],
        "drop-source": sent["source"] + sent["inner-part"] + sent["jumbo"],
        "drop-destination": sent["loop"],
        "drop-bad-inner": sent["truncated"] + sent["oversized"] + sent["noise"],
    }
    for reason, most in kinds.items():
        assert 0 < reasons[reason] <= most, (reason, reasons, kinds)
    assert outcome.rose("packets-in") == outcome.inbound.received


def test_the_talk_goes_on(outcome: Outcome) -> None:
    """What is lost of it, the full buffer of the attacked socket has taken."""
    for talk in (outcome.inbound, outcome.outbound):
        assert talk.received > 0
        assert talk.duplicates == 0
    assert outcome.outbound.lost == 0, outcome
    if outcome.inbound.lost:
        assert outcome.socket_drops + outcome.link_drops > 0, outcome


def test_nothing_ends_and_nothing_grows(lab: Lab, outcome: Outcome) -> None:
    before, after = outcome.before, outcome.after
    assert after.processes == before.processes
    assert after.descriptors == before.descriptors
    for old, new in zip(before.memory, after.memory, strict=True):
        assert new - old < GROWTH_BYTES, (before.memory, after.memory)
    assert after.log_lines - before.log_lines <= LOG_LINES
    assert lab.ping("n1/p1", "n2/p1", 3) == lab.ping("n3/p1", "n1/p1", 3) == 3
    status = lab.status("n1")
    assert (status["ready"], status["problems"]) == (True, [])
