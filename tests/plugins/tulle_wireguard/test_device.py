"""The device: what waits, what is sent where, and what it is told."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from tulle.testing.faults.network import Address
from tulle_wireguard.constants import HANDSHAKE_DS
from tulle_wireguard.endpoint import Endpoint

ELSEWHERE = Address("198.51.100.7", 4500)
PSK = b"p" * 32

World = Any
"""conftest.World"""


@pytest.fixture
def world(make_world: type[World]) -> World:
    return make_world()


@pytest.mark.parametrize("psk", [None, PSK])
def test_the_first_packet_makes_a_session_and_arrives(world: World, psk: bytes | None) -> None:
    a, b = world.pair(psk=psk)
    (packet,) = a.send(b, b"hello")
    world.run()
    assert b.received == [(a.device.public, packet)]
    assert (a.kinds(), b.kinds()) == ([1, 4], [2])
    (answer,) = b.send(a, b"back")
    world.run()
    assert a.received == [(b.device.public, answer)]
    assert a.device.counters == b.device.counters == {}


def test_what_waits_for_a_session_is_the_newest_128_in_order(world: World) -> None:
    a, b = world.pair()
    a.send(b, *(n.to_bytes(2) for n in range(100)))
    a.send(b, *(n.to_bytes(2) for n in range(100, 200)))
    world.run()
    assert b.payloads() == [n.to_bytes(2) for n in range(72, 200)]
    assert a.device.counters == {"drop-staged": 72}


def test_buffers_that_wait_are_copied(world: World) -> None:
    a, b = world.pair()
    buffer = bytearray(a.packet(b, b"as it was"))
    a.act(a.device.packets_to_send([memoryview(buffer)], world.now))
    buffer[20:] = bytes(9)
    world.run()
    assert b.payloads() == [b"as it was"]


def test_a_packet_for_nobody_and_one_for_a_peer_that_is_nowhere_are_counted(world: World) -> None:
    a, b = world.nodes
    a.knows(b, found=False)
    a.send(a, b"x")
    a.send(b, b"x")
    assert a.sent == []
    assert a.device.counters == {"drop-no-peer": 1, "drop-no-endpoint": 1}


def test_a_peer_is_followed_to_where_it_was_authenticated_last(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"from home")
    world.run()
    a.address = ELSEWHERE
    a.send(b, b"from elsewhere")
    world.run()
    b.send(a, b"to elsewhere")
    world.run()
    assert a.payloads() == [b"to elsewhere"]
    assert b.kinds().count(1) == 0


def test_the_same_settings_again_leave_a_peer_where_it_was_authenticated(world: World) -> None:
    a, b = world.pair()
    home = Endpoint(ip_address(a.address.host).packed, a.address.port)
    a.address = ELSEWHERE
    a.send(b, b"from elsewhere")
    world.run()
    b.knows(a, endpoints=[home])
    b.send(a, b"still there")
    world.run()
    assert a.payloads() == [b"still there"]


def test_a_removed_peer_is_a_stranger_and_its_keys_are_gone(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    peer = b.device.peers[a.device.public]
    pair = peer.pairs.current
    b.device.remove_peer(a.device.public)
    b.device.remove_peer(a.device.public)
    assert pair.receive_key == bytes(32)
    assert peer.psk == bytes(32)
    a.send(b, b"y")
    world.run(30)
    assert b.payloads() == [b"x"]
    assert b.kinds() == [2]


def test_settings_that_cannot_be_are_refused_and_change_nothing(world: World) -> None:
    a, b = world.pair()
    with pytest.raises(ValueError, match="our own public key"):
        a.device.add_peer(a.device.public, world.now)
    with pytest.raises(ValueError, match="no usable public key"):
        a.device.add_peer(bytes(32), world.now)
    with pytest.raises(ValueError, match="32 bytes, this one 5"):
        a.device.add_peer(b"short", world.now)
    with pytest.raises(ValueError, match="32 bytes, this one 4"):
        a.device.add_peer(b"k" * 32, world.now, psk=b"nope")
    assert set(a.device.peers) == {b.device.public}


def test_the_outer_byte_carries_ecn_of_packets_and_the_class_of_handshakes(world: World) -> None:
    a, b = world.pair()
    packets = [bytearray(a.packet(b, bytes([mark]))) for mark in (0, 2, 2, 1, 3, 0)]
    for packet in packets:
        packet[1] = 0xB8 | packet[20]
    a.act(a.device.packets_to_send(packets, world.now))
    world.run()
    assert [ds for _, ds, _ in a.sent] == [HANDSHAKE_DS, 0, 2, 2, 1, 3, 0]
    assert b.sent[0][1] == HANDSHAKE_DS
    assert [packet[20] for _, packet in b.received] == [0, 2, 2, 1, 3, 0]


def test_congestion_outside_is_told_inside(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    packet = bytearray(a.packet(b, b"y"))
    packet[1] = 2
    a.act(a.device.packets_to_send([packet], world.now))
    b.hear(a.address, a.sent[-1][2], ds=3)
    assert b.received[-1][1][1] == 3


def test_an_address_of_ours_that_is_gone_is_not_insisted_on(world: World) -> None:
    a, b = world.pair()
    b.send(a, b"x")
    stuck = Endpoint(ip_address(b.address.host).packed, b.address.port, b"\x0a\0\0\x05")
    world.run()
    peer = a.device.peers[b.device.public]
    peer.where.proved(stuck)
    a.device.send_failed(stuck)
    assert peer.where.current == stuck.without_local()
