"""Sessions go over to another process whole; and what is no state is refused."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard import handover
from tulle_wireguard.device import Device

World = Any
"""conftest.World"""


@pytest.fixture
def world(make_world: type[World]) -> World:
    return make_world()


def successor(node: Any, other: Any) -> bytes:
    """Another process takes the node over. Returns what it was given."""
    state: bytes = node.device.export_state()
    old = node.device
    node.device = Device(node.private, node.rng.randbytes, old._exchange._unix_ns, node.world.now)
    node.knows(other)
    node.device.import_state(state)
    return state


def test_the_talk_goes_on_without_a_handshake_and_nothing_comes_twice(world: World) -> None:
    a, b = world.pair()
    a.send(b, *(bytes([n]) for n in range(10)))
    world.run()
    b.send(a, b"back")
    world.run()
    before = len(a.sent), len(b.sent)
    old = a.device
    successor(a, b)
    successor(b, a)
    a.send(b, b"there")
    b.send(a, b"and back")
    world.run()
    assert b.payloads() == [bytes([n]) for n in range(10)] + [b"there"]
    assert a.payloads() == [b"back", b"and back"]
    assert {datagram[0] for _, _, datagram in a.sent[before[0] :] + b.sent[before[1] :]} == {4}
    for _, _, datagram in a.sent:
        b.hear(a.address, datagram)
    assert len(b.received) == 11
    assert old.packets_to_send([a.packet(b, b"old")], world.now).sends == []
    assert old.counters["drop-given-away"] == 1


def test_who_gave_away_still_opens_but_says_nothing(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    b.device.export_state()
    sent = len(b.sent)
    a.send(b, b"y")
    world.run(30)
    assert b.payloads() == [b"x", b"y"]
    assert len(b.sent) == sent
    b.hear(a.address, a.sent[0][2])
    assert len(b.sent) == sent


def test_a_peer_stays_where_it_was_and_sessions_age_on(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    a.address = a.address._replace(port=999)
    a.send(b, b"moved")
    world.run(5)
    successor(b, a)
    b.send(a, b"found")
    world.run()
    assert a.payloads() == [b"found"]
    world.run(545)
    assert b.device.peers[a.device.public].pairs.all() == []


def test_another_key_of_ours_has_none_of_the_sessions(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    state = a.device.export_state()
    other = Device(b"o" * 32, random.Random(1).randbytes, lambda: 0, world.now)
    peer = other.add_peer(b.device.public, world.now)
    other.import_state(state)
    assert peer.pairs.all() == []


def test_timestamps_go_on_after_the_last(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    a.clock_ns -= 10**15
    successor(a, b)
    world.run(200)
    a.send(b, b"y")
    world.run()
    assert b.payloads() == [b"x", b"y"]


@given(st.binary(max_size=300))
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="WireGuard sessions"):
        handover.decode(data)


def test_a_state_of_another_version_or_size_is_refused(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    state = a.device.export_state()
    raw = msgspec.msgpack.decode(state)
    raw[0] = 2
    with pytest.raises(ValueError, match="version 2, but this is version 1"):
        handover.decode(msgspec.msgpack.encode(raw))
    for wrong_place in (
        [b"123", 1, b""],
        [bytes(4), 1 << 16, b""],
        [bytes(4), -1, b""],
        [bytes(16), 1, bytes(4)],
    ):
        raw = msgspec.msgpack.decode(state)
        raw[3][0][2] = wrong_place
        with pytest.raises(ValueError, match="no UDP address"):
            handover.decode(msgspec.msgpack.encode(raw))
    for place, wrong in ((5, b"short"), (8, [0])):
        raw = msgspec.msgpack.decode(state)
        current = raw[3][0][9]
        current[place] = wrong
        with pytest.raises(ValueError, match="another size"):
            handover.decode(msgspec.msgpack.encode(raw))
