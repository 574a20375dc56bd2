"""Who is believed, and who gets no answer."""

from __future__ import annotations

import random
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.testing.faults.network import Address
from tulle_wireguard.cookies import Checker, Stamper
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.messages import Initiation

ELSEWHERE = Address("198.51.100.7", 4500)

World = Any
"""conftest.World"""


@pytest.fixture
def world(make_world: type[World]) -> World:
    return make_world()


def test_nothing_but_an_authentic_and_new_datagram_moves_a_peer(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    peer = b.device.peers[a.device.public]
    home = peer.where.current
    for _, _, datagram in a.sent:  # replays
        b.hear(ELSEWHERE, datagram)
    forged = bytearray(a.sent[-1][2])
    forged[8] += 1
    b.hear(ELSEWHERE, bytes(forged))
    assert peer.where.current == home
    assert b.payloads() == [b"x"]


def test_a_cookie_reply_moves_nobody(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    initiation = a.sent[0][2]
    reply = Checker(b.device.public, random.Random(1).randbytes).reply(initiation, b"place", world.now)
    a.hear(ELSEWHERE, reply)
    peer = a.device.peers[b.device.public]
    assert peer.stamper.has_cookie(world.now)
    assert peer.where.current == Endpoint(ip_address(b.address.host).packed, b.address.port)


def test_inner_addresses_that_are_not_the_senders_are_dropped(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    spoofed = b.packet(b, b"in your own name")
    peer = a.device.peers[b.device.public]
    a.act(a.device.send_to(peer, [spoofed], world.now))
    a.act(a.device.send_to(peer, [b"\x45 no packet at all"], world.now))
    world.run()
    assert b.payloads() == [b"x"]
    assert b.device.counters == {"drop-source": 1, "drop-bad-inner": 1}


def test_who_is_nobodys_peer_gets_no_byte_back(make_world: type[World]) -> None:
    """A stranger that knows our public key, and one that sends anything at all."""
    world = make_world(nodes=3)
    a, b = world.pair()
    stranger = world.nodes[2]
    stranger.knows(b)
    stranger.send(b, b"let me in")
    world.run(3)
    assert b.sent == []
    assert b.device.counters == {"drop-initiation-unproven": 1}
    rng = random.Random(5)
    for kind in range(6):
        for size in (0, 1, 4, 31, 32, 33, 64, 92, 148, 149, 1500):
            b.hear(ELSEWHERE, (bytes([kind, 0, 0, 0]) + rng.randbytes(1500))[:size])
    assert b.sent == []
    assert a.sent == []


def flood(public: bytes, count: int) -> list[bytes]:
    """Initiations with a right mac1 and nothing else."""
    stamper, rng = Stamper(public), random.Random(3)
    junk = (
        Initiation(n, rng.randbytes(32), rng.randbytes(48), rng.randbytes(28)).encode() for n in range(count)
    )
    return [stamper.stamp(one, 0.0) for one in junk]


def test_a_flood_gets_no_more_than_cookies_and_a_session_moves_on(world: World) -> None:
    a, b = world.pair()
    a.send(b, b"x")
    world.run()
    before = len(b.sent)
    for number, one in enumerate(flood(b.device.public, 2000)):
        b.hear(Address(f"203.0.113.{number % 250}", 1000 + number), one)
    assert b.device.counters["drop-initiation-unproven"] == 4
    assert b.sent[before:] == []
    a.send(b, b"in the middle of it")
    world.run(0.011)
    assert b.payloads() == [b"x", b"in the middle of it"]
    assert {datagram[0] for _, _, datagram in b.sent[before:]} == {3}
    assert len(b.sent) - before <= 50 + 0.011 * 20_000
    world.run()
    assert b.device.counters["cookie-replies"] == 1996


def test_under_a_flood_an_honest_peer_gets_through_by_its_cookie(world: World) -> None:
    a, b = world.pair()
    junk = flood(b.device.public, 600)
    for step in range(58):
        if step < 4 or step > 49:  # 6,000 a second, when it asks and when it asks again
            for number, one in enumerate(junk):
                b.hear(Address(f"203.0.113.{number % 250}", 1000 + step), one)
        if step == 2:
            a.send(b, b"through")
        world.run(0.1)
    assert b.payloads() == [b"through"]
    assert a.kinds()[:2] == [1, 1]
    assert 3 in b.kinds()
    assert b.device.counters["drop-initiation-unproven"] < 600


@given(st.lists(st.binary(max_size=200), max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_hostile_bytes_are_never_raised_and_the_talk_goes_on(
    make_world: type[World], noise: list[bytes], rng: random.Random
) -> None:
    world = make_world()
    a, b = world.pair()
    a.send(b, b"before")
    world.run()
    for one in [*noise, *(datagram for _, _, datagram in (*a.sent, *b.sent))]:
        for node in (a, b):
            mutated = bytearray(one)
            for _ in range(rng.randrange(4)):
                if mutated:
                    mutated[rng.randrange(len(mutated))] = rng.randrange(256)
            node.hear(ELSEWHERE, bytes(mutated))
            node.hear(ELSEWHERE, one[: rng.randrange(len(one) + 1)])
    a.send(b, b"after")
    world.run()
    assert b.payloads() == [b"before", b"after"]
