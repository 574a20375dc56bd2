"""A probe's counters, and a probe in a namespace with nothing but loopback."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from tulle.contracts.doctor import DoctorContext
from tulle.kernel.state import Way
from tulle.trace import probe as probing
from tulle.trace.probe import Counters, answers_to, ask, counters, probe, sent_packets, wait_for_counters
from tulle.trace.verdict import judge
from tulle.trace.way import Seen

MakeSeen = Callable[..., Seen]

PROC_NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls
    lo:    1000      10    0    0    0     0          0         0     2000      20    0    0    0     0
tulle0:  123456      77    0    0    0     0          0         0   654321      88    0    0    0     0
"""

STATUS: dict[str, Any] = {
    "dataplane": {"engine": "python", "counters": {"drop-no-route": 4, "drop-x": 1, "packets-out": 9}},
    "peers": [
        {"key": "other", "traffic": {"packets_out": 100, "packets_in": 100}},
        {"key": "mine", "traffic": {"packets_out": 5, "packets_in": 3}},
        {"key": "quiet", "traffic": None},
    ],
}


@pytest.mark.parametrize(("device", "expected"), [("tulle0", 88), ("lo", 20), ("ulle0", None), ("", None)])
def test_a_devices_sent_packets_are_the_kernels_column(device: str, expected: int | None) -> None:
    assert sent_packets(PROC_NET_DEV, device) == expected


@pytest.mark.parametrize("table", ["", "tulle0:", "tulle0: a b c d e f g h i j k", "tulle0: " + "1 " * 9])
def test_a_table_that_is_cut_says_nothing(table: str) -> None:
    assert sent_packets(table, "tulle0") is None


def test_the_counters_of_one_peer_and_all_drops_are_taken_from_the_status() -> None:
    found = counters(STATUS, 7, "mine")
    assert found == Counters(device=7, out=5, into=3, drops={"drop-no-route": 4, "drop-x": 1})
    assert counters(STATUS, None, "quiet") == msgspec.structs.replace(found, device=None, out=None, into=None)
    assert counters(STATUS, 7, "nobody").out is None


@pytest.mark.parametrize(
    "status", [None, {}, {"dataplane": {}}, {"dataplane": {"counters": {}}, "peers": []}]
)
def test_where_no_forwarder_counts_nothing_is_known(status: dict[str, Any] | None) -> None:
    assert counters(status, None, "mine") == Counters(None, None, None, {})


def reading(monkeypatch: pytest.MonkeyPatch, *answers: Counters) -> list[Counters]:
    """Each look sees the next of these, the last one for ever. Returns what was seen."""
    seen: list[Counters] = []

    def read(_: Seen) -> Counters:
        seen.append(answers[min(len(seen), len(answers) - 1)])
        return seen[-1]

    monkeypatch.setattr(probing, "read_counters", read)
    monkeypatch.setattr(probing, "LOOK_S", 0.0)
    return seen


ZERO = Counters(0, 0, 0, {})


@pytest.mark.parametrize(
    "settled", [Counters(3, 3, 0, {}), Counters(3, 1, 0, {"drop-x": 2}), Counters(3, None, None, {})]
)
def test_it_waits_until_the_counters_account_for_what_was_sent(
    make_seen: MakeSeen, monkeypatch: pytest.MonkeyPatch, settled: Counters
) -> None:
    seen = reading(monkeypatch, Counters(3, 0, 0, {}), Counters(3, 1, 0, {}), settled)
    assert wait_for_counters(make_seen(), ZERO, 3, clock=lambda: 0.0) == settled
    assert len(seen) == 3


def test_it_does_not_wait_for_ever(make_seen: MakeSeen, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = reading(monkeypatch, ZERO)
    times = iter([0.0, 1.0, 2.0, 99.0])
    assert wait_for_counters(make_seen(), ZERO, 3, clock=lambda: next(times)) == ZERO
    assert len(seen) == 3


def test_nobody_on_the_socket_is_no_status(make_seen: MakeSeen) -> None:
    assert ask(make_seen()) is None


def test_an_answer_needs_no_counters(inside: Callable[..., Any], make_seen: MakeSeen) -> None:
    seen = make_seen("127.0.0.1", way=Way("local", "lo"), endpoint=None, outer=None)
    observed = inside(lambda: probe(seen))
    assert (observed.result.received, observed.tunnelled) == (3, False)
    assert judge(observed).arrived
    assert inside(lambda: answers_to(ip_address("::1"))) is True


def test_silence_in_the_tunnel_is_told_with_what_was_counted(
    inside: Callable[..., Any], make_seen: MakeSeen, context: DoctorContext
) -> None:
    """A namespace whose tunnel leads nowhere: the device counts, no engine does, no endpoint answers."""
    inside(
        """
        ip link add tulle0 type veth peer name tunnel
        ip link set tulle0 up; ip link set tunnel up
        ip addr add 10.42.1.0/32 dev tulle0
        ip route add 10.42.0.0/16 dev tulle0
        ip neigh add 10.42.2.5 dev tulle0 lladdr 02:00:00:00:00:01
        ip neigh add 10.42.2.0 dev tulle0 lladdr 02:00:00:00:00:01
        """
    )
    observed = inside(lambda: probe(make_seen(), count=1))
    assert (observed.result.received, observed.tunnelled) == (0, True)
    assert observed.sent_into_tunnel >= 1
    assert (observed.sent_to_peer, observed.from_peer) == (None, None)
    assert (observed.tunnel_there_answers, observed.endpoint_answers) == (False, False)
    verdict = judge(observed)
    assert (verdict.arrived, verdict.stopped_at) == (False, "underlay")
