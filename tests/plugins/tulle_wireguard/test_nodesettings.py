"""What root may set on a node, and what belongs to the store."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from tulle.contracts.backend import DataPeer, Endpoint
from tulle.net.prefix import parse_prefix
from tulle_wireguard.keytext import key_text
from tulle_wireguard.nodesettings import NodeSettings
from tulle_wireguard.place import Place, parse_place
from tulle_wireguard.uapi import AllowedIp, DeviceView, PeerChange, Set
from tulle_wireguard.uapi_socket import CannotChange

PRIVATE, A, B = (bytes([number]) * 32 for number in (1, 2, 3))
POD, LAPTOP = parse_prefix("10.42.1.0/24"), parse_prefix("10.99.0.7/32")
PORT = 51820
NODE = DataPeer(
    "10.42.1.0-24",
    (str(POD),),
    (Endpoint("192.0.2.2", PORT), Endpoint("10.0.0.2", PORT)),
    {"PublicKey": key_text(A), "PersistentKeepalive": 25},
)
MOVED = "198.51.100.9:4000"
BY_HAND = PeerChange(public_key=B, allowed_ips=(AllowedIp(LAPTOP),), endpoint=parse_place("192.0.2.7:5"))


class Node:
    """Its settings, what its data plane tells, and how often it heard of changes."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, Any]] = {}
        self.changes = 0
        self.settings = NodeSettings(lambda: self.told, self._changed, unix_ns=lambda: 100 * 10**9)
        self.settings.state(PRIVATE, PORT, [NODE])

    def _changed(self) -> None:
        self.changes += 1

    def view(self) -> DeviceView:
        return asyncio.run(self.settings.view())

    def set(self, wanted: Set) -> None:
        asyncio.run(self.settings.change(wanted))


@pytest.fixture
def node() -> Node:
    return Node()


def test_everything_is_shown(node: Node) -> None:
    node.told = {
        NODE.key: {
            "endpoint": MOVED,
            "last-handshake": 40.0,
            "received-bytes": 7,
            "sent-bytes": 8,
            "packets-in": 1,
        }
    }
    found = node.view()
    assert (found.private_key, found.listen_port, found.fwmark) == (PRIVATE, PORT, 0)
    (peer,) = found.peers
    assert (peer.public_key, peer.keepalive_s, peer.allowed_ips) == (A, 25, (POD,))
    assert (str(peer.endpoint), peer.last_handshake_ns, peer.rx_bytes, peer.tx_bytes) == (
        MOVED,
        60 * 10**9,
        7,
        8,
    )


def test_a_peer_that_was_not_heard_is_shown_where_it_is_said_to_be(node: Node) -> None:
    (peer,) = node.view().peers
    assert (str(peer.endpoint), peer.last_handshake_ns) == ("192.0.2.2:51820", 0)


@pytest.mark.parametrize(
    "wanted",
    [
        Set(private_key=B),
        Set(listen_port=PORT + 1),
        Set(replace_peers=True),
        Set(peers=(PeerChange(public_key=A, remove=True),)),
        Set(peers=(PeerChange(public_key=A, keepalive_s=0),)),
        Set(peers=(PeerChange(public_key=A, endpoint=parse_place("192.0.2.3:1")),)),
        Set(peers=(PeerChange(public_key=A, allowed_ips=(AllowedIp(LAPTOP),)),)),
        Set(peers=(PeerChange(public_key=B, allowed_ips=(AllowedIp(POD),)),)),
        Set(fwmark=5, peers=(BY_HAND, PeerChange(public_key=A, preshared_key=B))),
    ],
)
def test_what_the_store_owns_cannot_be_set_and_nothing_of_such_a_request_is_done(
    node: Node, wanted: Set
) -> None:
    before = node.view()
    with pytest.raises(CannotChange, match="change them there") as refused:
        node.set(wanted)
    assert refused.value.error == errno.EPERM
    assert node.view() == before
    assert node.changes == 0


def test_a_peer_by_hand_and_a_mark_are_taken_and_told(node: Node) -> None:
    node.set(Set(fwmark=5, peers=(BY_HAND,)))
    assert node.changes == 1
    assert node.settings.fwmark == 5
    (peer,) = node.settings.by_hand()
    assert (peer.key, peer.prefixes, peer.endpoints) == (B.hex(), (str(LAPTOP),), (Endpoint("192.0.2.7", 5),))
    node.told = {B.hex(): {"endpoint": MOVED}}
    assert [str(one.endpoint) for one in node.view().peers] == ["192.0.2.2:51820", MOVED]
    node.set(Set(peers=(PeerChange(public_key=B, remove=True),)))
    assert node.settings.by_hand() == []


def test_saying_again_what_is_shown_changes_nothing(node: Node) -> None:
    node.told = {NODE.key: {"endpoint": MOVED}}
    found = node.view()
    again = Set(
        private_key=found.private_key,
        listen_port=found.listen_port,
        fwmark=0,
        replace_peers=True,
        peers=tuple(
            PeerChange(
                public_key=one.public_key,
                preshared_key=one.preshared_key,
                endpoint=one.endpoint,
                keepalive_s=one.keepalive_s,
                replace_allowed_ips=True,
                allowed_ips=tuple(AllowedIp(prefix) for prefix in one.allowed_ips),
            )
            for one in found.peers
        ),
    )
    node.set(again)
    assert node.changes == 0
    assert node.view() == found


def test_peers_by_hand_stay_when_the_stores_change_until_the_store_has_them(node: Node) -> None:
    node.set(Set(peers=(BY_HAND,)))
    node.settings.state(PRIVATE, PORT, [])
    assert [one.public_key for one in node.view().peers] == [B]
    theirs = DataPeer("wireguard/peers/laptop", (str(LAPTOP),), (), {"PublicKey": key_text(B)})
    node.settings.state(PRIVATE, PORT, [NODE, theirs])
    assert node.settings.by_hand() == []
    assert [one.public_key for one in node.view().peers] == [A, B]


def test_a_prefix_that_the_store_gives_to_another_is_taken_from_a_peer_by_hand(node: Node) -> None:
    node.set(Set(peers=(BY_HAND,)))
    theirs = DataPeer("wireguard/peers/other", (str(LAPTOP),), (), {"PublicKey": key_text(bytes([9]) * 32)})
    node.settings.state(PRIVATE, PORT, [theirs])
    (peer,) = node.settings.by_hand()
    assert peer.prefixes == ()


def test_where_a_peer_is_can_be_said_anew_by_hand(node: Node) -> None:
    node.set(Set(peers=(BY_HAND,)))
    there = Place(BY_HAND.endpoint.address, 6) if BY_HAND.endpoint else None
    node.set(Set(peers=(PeerChange(public_key=B, endpoint=there),)))
    assert node.settings.by_hand()[0].endpoints == (Endpoint("192.0.2.7", 6),)
