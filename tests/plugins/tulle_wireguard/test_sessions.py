"""Sessions come, are renewed, and end: whoever starts, whatever is lost."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.net.prefix import parse_prefix
from tulle_wireguard.constants import REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES

PSK = b"p" * 32

World = Any
"""conftest.World"""


@pytest.fixture
def world(make_world: type[World]) -> World:
    return make_world()


def test_with_nothing_to_say_the_initiator_confirms_by_a_keepalive(world: World) -> None:
    a, b = world.pair()
    b.knows(a, persistent_s=0)
    a.knows(b, persistent_s=60)
    world.run()
    assert a.kinds() == [1, 4]
    assert len(a.sent[1][2]) == 32
    assert b.received == []
    assert b.device.peers[a.device.public].pairs.current is not None


def test_a_session_is_renewed_after_two_minutes_and_nothing_is_lost(world: World) -> None:
    a, b = world.pair()
    for second in range(400):
        a.send(b, second.to_bytes(2))
        world.run(0.3)
        b.send(a, second.to_bytes(2))
        world.run(0.7)
    assert b.payloads() == a.payloads() == [second.to_bytes(2) for second in range(400)]
    assert (a.kinds() + b.kinds()).count(1) == 4
    assert a.device.counters == b.device.counters == {}


def test_who_receives_renews_too_before_the_session_ends(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"a is the initiator")
    world.run()
    world.run(5.0)
    for age, initiations in ((164, 1), (166, 2)):
        for node, other in ((a, b), (b, a)):
            node.device.peers[other.device.public].pairs.current.created = world.now - age
        b.send(a, b"x")
        world.run(2.0)  # less than it takes for a keepalive, which would renew it too
        assert a.kinds().count(1) == initiations
    assert b.kinds().count(1) == 0


def test_who_only_receives_has_the_session_renewed_by_its_keepalives(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"a is the initiator")
    world.run()
    for _ in range(300):
        b.send(a, b"x")
        world.run(1.0)
    assert len(a.payloads()) == 300
    assert a.kinds().count(1) == 3
    assert b.kinds().count(1) == 0


def test_a_session_is_renewed_by_count(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run(6)
    pair = a.device.peers[b.device.public].pairs.current
    pair.counter = REKEY_AFTER_MESSAGES
    a.send(b, b"y")
    world.run()
    assert a.kinds().count(1) == 2
    assert a.device.peers[b.device.public].pairs.current is not pair


def test_packets_that_the_counter_has_no_room_for_go_in_the_next_session(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run(6)
    pair = a.device.peers[b.device.public].pairs.current
    pair.counter = REJECT_AFTER_MESSAGES - 2
    a.send(b, b"1", b"2", b"3", b"4")
    world.run()
    assert b.payloads() == [b"x", b"1", b"2", b"3", b"4"]
    assert pair.counter == REJECT_AFTER_MESSAGES


def test_an_unanswered_initiation_is_tried_for_ninety_seconds_and_then_all_is_quiet(world: World) -> None:
    a, b = world.pair()
    world.network.partition([a.address.host], [b.address.host])
    a.send(b, b"x")
    world.run(300)
    assert 16 <= len(a.kinds()) <= 18
    assert set(a.kinds()) == {1}
    assert a.device.counters == {"drop-unanswered": 1}
    world.network.heal()
    a.send(b, b"again")
    world.run()
    assert b.payloads() == [b"again"]


def test_what_is_received_is_answered_within_ten_seconds_and_keepalives_are_not(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run(60)
    assert a.kinds() == [1, 4]
    assert b.kinds() == [2, 4]


def test_a_peer_that_lost_its_session_is_asked_within_fifteen_seconds(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"before")
    world.run(20)
    b.restart()
    for number in range(17):
        a.send(b, bytes([number]))
        world.run(1.0)
    assert b.device.counters["drop-unknown-index"] >= 15
    assert b.payloads()[-1] == bytes([16])


def test_sessions_and_keys_are_forgotten_after_nine_minutes(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    pair = a.device.peers[b.device.public].pairs.current
    world.run(545)
    for node, other in ((a, b), (b, a)):
        assert node.device.peers[other.device.public].pairs.all() == []
    assert pair.send_key == bytes(32)
    assert a.device.deadline(world.now) is None


def test_who_has_just_answered_waits_five_seconds_before_it_asks_and_then_does(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"never confirmed")
    world.run(0.015)
    assert b.kinds() == [2]
    world.network.partition([a.address.host], [b.address.host])
    world.run(0.1)
    b.send(a, b"waits")
    world.network.heal()
    a.restart()
    world.run(4.8)
    assert b.kinds() == [2]
    world.run(1.0)
    assert a.payloads() == [b"waits"]


def test_what_waits_goes_out_when_the_session_of_the_other_side_is_confirmed(world: World) -> None:
    a, b = world.pair()
    world.network.block([b.address.host], [a.address.host])
    b.send(a, b"waits")
    world.run(0.5)
    world.network.heal()
    a.send(b, b"there")
    world.run(0.1)
    assert (a.payloads(), b.payloads()) == ([b"waits"], [b"there"])
    assert b.kinds() == [1, 2, 4]


def test_a_psk_that_was_changed_reaches_the_next_handshake(world: World) -> None:
    a, b = world.pair()
    a.knows(b, psk=PSK)
    a.send(b, b"x")
    world.run(3)
    assert b.payloads() == []
    assert a.device.counters == {"drop-response-unproven": 1}
    b.knows(a, psk=PSK)
    world.run(5)
    assert b.payloads() == [b"x"]


def test_nothing_is_sent_any_more_in_a_session_of_a_key_that_was_replaced(world: World) -> None:
    """What the other side sends in it is taken, until it knows the new key."""
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    old = a.device.public
    a.sent.clear()
    a.device.set_private(b"q" * 32, world.now)
    a.send(b, b"waits")
    b.send(a, b"back")
    world.run(7)
    assert set(a.kinds()) == {1}
    assert (a.payloads(), b.payloads()) == ([b"back"], [b"x"])
    b.knows(a)
    b.device.remove_peer(old)
    world.run(6)
    assert b.received[-1] == (a.device.public, a.packet(b, b"waits"))


def test_a_new_key_is_used_at_once_however_young_the_last_handshake_is(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run(0.5)
    b.device.remove_peer(a.device.public)
    a.device.set_private(b"q" * 32, world.now)
    b.knows(a)
    a.send(b, b"y")
    world.run(0.5)
    assert b.payloads() == [b"x", b"y"]


def test_a_handshake_that_a_wrong_key_began_is_begun_anew_with_the_right_one(world: World) -> None:
    a, b = world.nodes
    a.knows(b)
    a.send(b, b"waits")
    world.run(2)
    assert a.kinds() == [1]
    a.device.set_private(b"q" * 32, world.now)
    b.knows(a)
    world.run(0.1)
    assert b.payloads() == [b"waits"]


def test_a_session_that_is_confirmed_after_its_key_was_replaced_carries_nothing_back(world: World) -> None:
    """b has answered a, whose first packet in the session comes when b has another key."""
    a, b = world.pair()
    a.send(b, b"x")
    world.run(0.025)  # there and back; what confirms it is on its way
    assert b.kinds() == [2]
    old = b.device.public
    b.device.set_private(b"q" * 32, world.now)
    b.send(a, b"with the new key")
    world.run(0.2)
    assert b.payloads() == [b"x"]
    assert 4 not in b.kinds()
    a.knows(b)
    a.device.remove_peer(old)
    world.run(6)
    assert a.payloads()[-1] == b"with the new key"


def test_both_may_start_at_once(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"there")
    b.send(a, b"back")
    world.run(2)
    assert (a.payloads(), b.payloads()) == ([b"back"], [b"there"])
    a.send(b, b"1")
    b.send(a, b"2")
    world.run(1)
    assert (a.payloads(), b.payloads()) == ([b"back", b"2"], [b"there", b"1"])


def test_persistent_keepalives_go_on_for_ever_and_find_a_peer_that_comes_late(world: World) -> None:
    a, b = world.nodes
    a.knows(b, persistent_s=25)
    world.run(400)
    assert set(a.kinds()) == {1}
    b.knows(a, found=False)
    world.run(30)
    assert a.device.peers[b.device.public].last_handshake is not None
    b.send(a, b"behind NAT")
    world.run()
    assert a.payloads() == [b"behind NAT"]


def test_many_peers_have_their_handshakes_within_seconds(make_world: type[World]) -> None:
    world = make_world(nodes=41)
    hub, *others = world.nodes
    for one in others:
        hub.knows(one, allowed=[parse_prefix(one.inner)])
        one.knows(hub)
    for one in others:
        one.send(hub, b"x")
    world.run(2)
    assert len(hub.received) == len(others)
