"""What several data planes count of one peer is one sum."""

from __future__ import annotations

from tulle.node.answers import TunnelAnswer
from tulle.node.status import traffic_by_peer, traffic_of, tunnels_by_peer

FIRST = {"packets-out": 1, "bytes-out": 10, "packets-in": 2, "bytes-in": 20, "last-seen": 7.5, "drop-x": 1}
SECOND = {"packets-out": 3, "bytes-out": 30, "packets-in": 4, "bytes-in": 40, "last-seen": 2.5, "drop-x": 2}


def test_a_peer_of_two_planes_is_counted_together_and_was_seen_when_it_was_last() -> None:
    found = traffic_by_peer([{"p": FIRST, "q": FIRST}, {"p": SECOND, "r": SECOND}])
    assert found.keys() == {"p", "q", "r"}
    traffic = traffic_of(found["p"])
    assert (traffic.packets_out, traffic.bytes_out, traffic.packets_in, traffic.bytes_in) == (4, 40, 6, 60)
    assert (traffic.last_seen_s_ago, traffic.drops) == (2.5, {"x": 3})
    assert traffic_of(found["q"]) == traffic_of(FIRST)
    assert traffic_of(found["r"]) == traffic_of(SECOND)


def test_what_the_encapsulation_tells_of_a_peer_is_no_count() -> None:
    told = {"endpoint": "192.0.2.1:1", "last-handshake": 3.0, "sent-bytes": 9}
    found = traffic_by_peer([{"p": {**FIRST, **told}}, {"p": {"packets-out": 1, "endpoint": "[::1]:1"}}])
    assert found["p"]["endpoint"] == "192.0.2.1:1"
    traffic = traffic_of(found["p"])
    assert (traffic.packets_out, traffic.last_seen_s_ago) == (2, 7.5)


def test_without_planes_nobody_counts() -> None:
    assert traffic_by_peer([]) == {}


def test_a_peer_has_a_tunnel_for_each_plane_that_knows_where_it_is_or_when_it_shook_hands() -> None:
    found = tunnels_by_peer(
        {
            "": {"p": {**FIRST, "endpoint": "192.0.2.1:1", "last-handshake": 3.0}, "q": FIRST},
            "v6": {"p": {"endpoint": "[2001:db8::1]:2"}, "r": {"last-handshake": 5.0}},
        }
    )
    assert found == {
        "p": [
            TunnelAnswer(endpoint="192.0.2.1:1", last_handshake_s_ago=3.0),
            TunnelAnswer(dataplane="v6", endpoint="[2001:db8::1]:2"),
        ],
        "r": [TunnelAnswer(dataplane="v6", last_handshake_s_ago=5.0)],
    }
