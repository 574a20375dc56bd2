"""Alarms against looking at every peer."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard.alarms import Alarms
from tulle_wireguard.peer import Peer
from tulle_wireguard.timers import Event


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 4), st.sampled_from(Event)),
            st.floats(0, 30),
        ),
        max_size=60,
    )
)
def test_no_peer_is_looked_at_too_late(script: list[tuple[int, Event] | float]) -> None:
    alarms, now = Alarms(), 0.0
    peers = [Peer(bytes([n]) * 32, bytes(32), lambda: 0.0) for n in range(5)]
    for step in script:
        if isinstance(step, float):
            now += step
            for peer in alarms.due(now):
                list(peer.timers.expire(now))
                alarms.set(peer)
        else:
            peers[step[0]].timers.happened(step[1], now)
            alarms.set(peers[step[0]])
        earliest = min(peer.timers.deadline() for peer in peers)
        assert alarms.next() <= earliest
        assert earliest > now or isinstance(step, tuple)


def test_a_peer_that_was_removed_is_not_looked_at() -> None:
    alarms, peer = Alarms(), Peer(bytes(32), bytes(32), lambda: 0.0)
    peer.timers.happened(Event.SENT_INITIATION, 0.0)
    alarms.set(peer)
    peer.removed = True
    assert list(alarms.due(100.0)) == []
    assert alarms.next() == math.inf
