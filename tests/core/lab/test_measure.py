"""Pings, floods and streams in a lab without tulled: between the pods of one node."""

from __future__ import annotations

import sys
import time

import pytest

from tulle.lab import Lab, LabError, measure

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("family", [4, 6])
def test_a_flood_between_neighbours_arrives_whole(bare: Lab, family: int) -> None:
    with bare.flood("n1/p1", "n1/p2", count=2000, rate=20000, family=family) as flood:
        result = flood.finish()
    assert (result.sent, result.received, result.lost, result.duplicates, result.foreign) == (
        2000,
        2000,
        0,
        0,
        0,
    )


def test_a_flood_keeps_its_rate(bare: Lab) -> None:
    with bare.flood("n1/p1", "n1/p2", count=1000, rate=2000) as flood:
        assert flood.finish().duration_s == pytest.approx(0.5, rel=0.2)


BREAK = """
import time
from pyroute2 import IPRoute
with IPRoute() as links:
    (port,) = links.link_lookup(ifname="to-p2")
    links.link("set", index=port, state="down")
    time.sleep(0.3)
    links.link("set", index=port, state="up")
"""


def test_what_a_broken_link_swallows_is_counted(bare: Lab) -> None:
    with bare.flood("n2/p1", "n2/p2", count=4000, rate=1000) as flood:
        time.sleep(0.3)
        bare.run("n2", [sys.executable, "-c", BREAK])
        result = flood.finish()
    assert result.sent == 4000
    assert result.received + result.lost == 4000
    assert result.lost >= 200
    assert result.longest_gap_ms >= 200


def test_a_flood_that_is_left_early_leaves_no_process(bare: Lab) -> None:
    def flooding() -> bool:
        return any("flood-send" in resident.argv for resident in bare.residents())

    with bare.flood("n1/p1", "n1/p2", count=100000, rate=1000):
        while not flooding():
            time.sleep(0.01)
    assert not flooding()


@pytest.mark.parametrize("family", [4, 6])
def test_a_stream_between_neighbours_is_unchanged(bare: Lab, family: int) -> None:
    result = bare.transfer("n1/p1", "n1/p2", 5 << 20, family=family)
    assert result.unchanged
    assert result.bytes == 5 << 20
    assert result.gbit_s > 0


def test_a_stream_to_a_pod_that_cannot_be_reached_is_an_error_that_says_why(
    bare: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "PATIENCE_S", 0.5)
    with pytest.raises(LabError, match=r"stream-send .*failed:\n.*timed out"):
        bare.transfer("n1/p1", "n2/p1", 1000)
