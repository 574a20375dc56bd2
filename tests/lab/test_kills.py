"""tulled is killed again and again under a flood and a stream: no packet is lost, with any backend."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tulle.lab import Lab

pytestmark = [pytest.mark.lab]

BACKENDS = ["udp", "vxlan", "host-gw"]
KILLS, SOAK_KILLS = 10, 100
RATE = 2_000.0
PACKETS_A_KILL = 2_000
"""A kill, a start and the way to ready take less than a second on a quiet machine."""
STREAM_BYTES = 64 << 20


def killed_under_load(lab: Lab, kills: int, say: Callable[[str, object], None]) -> None:
    subnets = lab.status("n1")["subnets"]
    with (
        ThreadPoolExecutor(1) as pool,
        lab.flood("n2/p1", "n1/p1", count=kills * PACKETS_A_KILL, rate=RATE) as flood,
    ):
        stream = pool.submit(lab.transfer, "n1/p1", "n2/p1", STREAM_BYTES)
        for _ in range(kills):
            lab.kill_tulled("n1")
            lab.start_tulled("n1")
            lab.wait_ready()
        moved = stream.result(timeout=100)
        result = flood.finish()
    say("flood", result)
    say("stream", moved)
    assert moved.unchanged
    assert (result.sent, result.lost, result.duplicates) == (kills * PACKETS_A_KILL, 0, 0)
    assert lab.status("n1")["subnets"] == subnets
    assert lab.logs("n1").count(" starting tulled=") == 1 + kills


@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_kills_lose_no_packet_and_change_no_byte(
    make_lab: Callable[..., Lab], say: Callable[[str, object], None], backend: str
) -> None:
    killed_under_load(make_lab(nodes=2, pods=1, backend=backend, store="etcd"), KILLS, say)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hundred_kills_lose_no_packet_and_change_no_byte(
    make_lab: Callable[..., Lab], say: Callable[[str, object], None], backend: str
) -> None:
    killed_under_load(make_lab(nodes=2, pods=1, backend=backend), SOAK_KILLS, say)
