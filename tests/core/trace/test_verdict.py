"""Where a probe stopped: each point of the way, by what was counted and what answered."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.probe.ping import Summary
from tulle.trace.verdict import Observed, judge

SILENT = Summary(3, 0, 100.0)
TUNNEL: dict[str, Any] = {
    "result": SILENT,
    "tunnelled": True,
    "sent_into_tunnel": 3,
    "sent_to_peer": 3,
    "from_peer": 0,
    "tunnel_there_answers": False,
    "endpoint_answers": True,
    "node": "n2",
}


@pytest.mark.parametrize(
    ("different", "stopped_at", "words"),
    [
        ({"sent_into_tunnel": 0}, "this node", "tulle doctor --check firewall"),
        (
            {"sent_to_peer": 0, "drops": {"drop-no-route": 3, "drop-big": 1}},
            "engine",
            "drop-big 1, drop-no-route 3",
        ),
        ({"sent_to_peer": 0}, "engine", "nobody said why"),
        ({"tunnel_there_answers": True}, "pod", "n2 answers through the tunnel, the pod does not"),
        ({"endpoint_answers": False}, "underlay", "it is down, or the underlay is"),
        ({"from_peer": 3}, "the way back", "answers of n2 come in"),
        ({}, "the engine there", "Run tulle doctor on n2"),
        ({"endpoint_answers": None}, "beyond this node", "run tulle trace on n2"),
        ({"tunnelled": False}, "destination", "does not answer pings"),
    ],
)
def test_it_stops_before_the_first_point_that_nothing_proves(
    different: dict[str, Any], stopped_at: str, words: str
) -> None:
    verdict = judge(Observed(**(TUNNEL | different)))
    assert (verdict.arrived, verdict.stopped_at) == (False, stopped_at)
    assert words in verdict.text


def test_one_answer_is_an_arrival_whatever_was_counted() -> None:
    times = Summary(3, 1, 66.7, 1.5, 1.5, 1.5)
    verdict = judge(Observed(**(TUNNEL | {"result": times, "sent_into_tunnel": 0})))
    assert (verdict.arrived, verdict.stopped_at, verdict.text) == (True, "", "1 of 3 answered, 1.50 ms")


def test_what_is_not_known_blames_nobody() -> None:
    unknown = {"sent_into_tunnel": None, "sent_to_peer": None, "from_peer": None}
    nobody = {"tunnel_there_answers": None, "endpoint_answers": None, "node": ""}
    verdict = judge(Observed(**(TUNNEL | unknown | nobody)))
    assert verdict.stopped_at == "beyond this node"
    assert "the other node" in verdict.text


@pytest.mark.parametrize("tunnelled", [True, False])
def test_what_the_kernel_or_an_icmp_error_said_is_told(tunnelled: bool) -> None:
    said = "host unreachable, says 192.0.2.1"
    assert said in judge(Observed(**(TUNNEL | {"problem": said, "tunnelled": tunnelled}))).text
