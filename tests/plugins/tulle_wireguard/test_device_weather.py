"""Two devices over hours of bad weather: nothing false is ever delivered, and they find each other again."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.testing.faults.network import Address, Weather

World = Any
"""conftest.World"""
HOUR_NS = 3600 * 10**9
AGAIN_S = 20

BAD = st.builds(
    Weather,
    delay_s=st.sampled_from([0.0, 0.02, 0.3]),
    jitter_s=st.sampled_from([0.0, 0.05]),
    loss=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    duplicate=st.sampled_from([0.0, 0.3]),
    reorder=st.sampled_from([0.0, 0.5]),
    behind_s=st.sampled_from([0.05, 3.0]),
)
who = st.sampled_from([0, 1])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("weather"), BAD),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 9.0, 16.0, 59.0, 121.0, 170.0, 600.0, 40_000.0])),
        st.tuples(st.just("talk"), st.tuples(who, st.integers(1, 40))),
        st.tuples(st.just("restart"), who),
        st.tuples(st.just("clock"), st.tuples(who, st.sampled_from([-48, -1, 1, 48]))),
        st.tuples(st.just("move"), st.tuples(who, st.integers(1, 5))),
        st.tuples(st.just("replay"), st.tuples(who, st.integers(0, 10_000))),
    ),
    max_size=14,
)  # fmt: skip


class Story:
    """What was sent, and what may therefore arrive."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.nodes = world.pair()
        self.sent: tuple[set[bytes], set[bytes]] = (set(), set())
        self.count = 0

    def say(self, number: int) -> bytes:
        self.count += 1
        payload = self.count.to_bytes(4)
        (packet,) = self.nodes[number].send(self.nodes[1 - number], payload)
        self.sent[number].add(packet)
        return payload

    def step(self, what: str, how: Any) -> None:
        if what == "weather":
            self.world.network.set_weather(how)
        elif what == "wait":
            self.world.run(how)
        elif what == "restart":
            self.nodes[how].restart()
        elif what == "talk":
            for _ in range(how[1]):
                self.say(how[0])
                self.world.run(0.25)
        elif what == "clock":
            self.nodes[how[0]].clock_ns += how[1] * HOUR_NS
        elif what == "move":
            node = self.nodes[how[0]]
            node.address = Address(node.address.host, 50000 + how[1])
        elif what == "replay":
            self.replay(self.nodes[how[0]], random.Random(how[1]))

    def replay(self, victim: Any, rng: random.Random) -> None:
        """What was on the wire comes again, as it was and changed, from where it came and from elsewhere."""
        seen = [datagram for node in self.nodes for _, _, datagram in node.sent]
        for datagram in rng.sample(seen, min(len(seen), 30)):
            source = rng.choice([self.nodes[0].address, self.nodes[1].address, Address("198.51.100.9", 9)])
            victim.hear(source, datagram)
            mutated = bytearray(datagram)
            mutated[rng.randrange(len(mutated))] ^= 1 << rng.randrange(8)
            victim.hear(source, bytes(mutated))

    def check(self) -> None:
        """Only what was sent, under the name of who sent it, and each once."""
        for number, node in enumerate(self.nodes):
            other = self.nodes[1 - number]
            packets = [packet for _, packet in node.received]
            assert {sender for sender, _ in node.received} <= {other.device.public}
            assert set(packets) <= self.sent[1 - number]
            assert len(set(packets)) == len(packets)


@given(st.integers(0, 2**16), steps)
@settings(max_examples=60)
def test_whatever_happened_they_talk_again_and_nothing_false_was_delivered(
    make_world: type[World], seed: int, script: list[tuple[str, Any]]
) -> None:
    story = Story(make_world(seed))
    a, b = story.nodes
    for what, how in script:
        story.step(what, how)
        story.check()
    story.world.network.set_weather(Weather(delay_s=0.02))
    for node, other in ((a, b), (b, a)):  # as the store tells each where the other is now
        node.knows(other)
    for _ in range(AGAIN_S):
        story.say(0)
        story.say(1)
        story.world.run(1.0)
    last = story.say(0), story.say(1)
    story.world.run(1.0)
    story.check()
    assert b.payloads()[-1] == last[0]
    assert a.payloads()[-1] == last[1]


def test_through_a_day_of_loss_most_packets_arrive_and_sessions_are_few(make_world: type[World]) -> None:
    world = make_world(5, Weather(delay_s=0.03, loss=0.1, duplicate=0.05, reorder=0.1))
    story = Story(world)
    a, b = story.nodes
    for _ in range(24 * 3600 // 47):
        story.say(0)
        world.run(47.0)
    story.check()
    assert len(b.payloads()) > 0.8 * story.count
    initiations = (a.kinds() + b.kinds()).count(1)
    assert 400 < initiations < 2000  # one in two minutes, and what was lost of them


def test_behind_a_nat_that_forgets_keepalives_hold_the_way_open(make_world: type[World]) -> None:
    world = make_world(2)
    a, b = world.nodes
    nat = world.network.add_nat("203.0.113.1", [a.address.host], idle_s=30.0)
    a.knows(b, persistent_s=25)
    b.knows(a, found=False)
    world.run(600.0)
    b.send(a, b"still open")
    world.run(1.0)
    assert a.payloads() == [b"still open"]
    nat.rebind()
    world.run(26.0)
    b.send(a, b"open again")
    world.run(1.0)
    assert a.payloads() == [b"still open", b"open again"]
