"""Settings and counters as `get` shows them."""

from __future__ import annotations

from tulle_wireguard.interface import Interface, PeerSettings
from tulle_wireguard.place import parse_place
from tulle_wireguard.views import STEADY_NS, Viewer, heard_at

PUBLIC = bytes(range(32))


def handshake_ns(viewer: Viewer, seconds_ago: float, unix_ns: int) -> int:
    interface = Interface(peers={PUBLIC: PeerSettings(public_key=PUBLIC)})
    found = viewer.device(interface, 0, {PUBLIC: {"last-handshake": seconds_ago}}, unix_ns)
    return found.peers[0].last_handshake_ns


def test_one_handshake_is_shown_at_one_moment_and_the_next_one_at_another() -> None:
    viewer = Viewer()
    first = handshake_ns(viewer, 1.0, 100 * 10**9)
    assert first == 99 * 10**9
    assert handshake_ns(viewer, 2.1, 101 * 10**9) == first
    later = handshake_ns(viewer, 0.5, 105 * 10**9)
    assert later - first > STEADY_NS


def test_a_peer_without_a_handshake_has_none_at_zero() -> None:
    interface = Interface(peers={PUBLIC: PeerSettings(public_key=PUBLIC)})
    (peer,) = Viewer().device(interface, 0, {}, 10**18).peers
    assert (peer.last_handshake_ns, peer.rx_bytes, peer.tx_bytes) == (0, 0, 0)


def test_a_place_that_is_not_told_is_none() -> None:
    assert heard_at({}) is None
    assert heard_at({"endpoint": "nonsense"}) is None
    assert heard_at({"endpoint": "[2001:db8::1]:5"}) == parse_place("[2001:db8::1]:5")
