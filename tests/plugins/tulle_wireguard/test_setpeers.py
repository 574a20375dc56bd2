"""A peer that was set, as the forwarder is told of it, and back."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.backend import Endpoint
from tulle.net.prefix import parse_prefix
from tulle_wireguard.encapsulation import PeerOptions
from tulle_wireguard.interface import PeerSettings
from tulle_wireguard.keytext import key_bytes
from tulle_wireguard.place import parse_place
from tulle_wireguard.setpeers import from_data_peer, to_data_peer
from tulle_wireguard.uapi import NO_KEY

PUBLIC = bytes(range(32))
PREFIXES = [parse_prefix(one) for one in ("fd00::/64", "10.0.0.0/8", "10.0.0.0/16", "9.0.0.0/8", "::/0")]
peers = st.builds(
    PeerSettings,
    public_key=st.binary(min_size=32, max_size=32),
    preshared_key=st.sampled_from([NO_KEY, bytes(31) + b"k"]),
    endpoint=st.none() | st.sampled_from([parse_place("192.0.2.1:5"), parse_place("[2001:db8::1]:5")]),
    keepalive_s=st.integers(0, 65535),
    allowed_ips=st.frozensets(st.sampled_from(PREFIXES)),
)


@given(peers)
def test_what_the_forwarder_is_told_is_understood_by_it_and_can_be_read_back(peer: PeerSettings) -> None:
    told = to_data_peer(peer)
    understood = msgspec.convert(dict(told.settings), PeerOptions)
    assert key_bytes(understood.public_key) == peer.public_key
    assert understood.persistent_keepalive == peer.keepalive_s
    assert from_data_peer(told) == peer
    assert told.key == peer.public_key.hex()


def test_prefixes_are_shown_in_one_order() -> None:
    told = to_data_peer(PeerSettings(public_key=PUBLIC, allowed_ips=frozenset(PREFIXES)))
    assert told.prefixes == ("9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/16", "::/0", "fd00::/64")


def test_of_several_endpoints_the_first_is_shown() -> None:
    told = to_data_peer(PeerSettings(public_key=PUBLIC))
    several = (Endpoint("2001:db8::1", 5), Endpoint("192.0.2.1", 5))
    found = from_data_peer(msgspec.structs.replace(told, endpoints=several))
    assert found.endpoint == parse_place("[2001:db8::1]:5")
