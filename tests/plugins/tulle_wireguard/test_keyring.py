"""Keys are replaced on either side, or on both, and no packet is lost: sessions go on until there are new ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tulle_wireguard.crypto import public_key
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.keyring import Keyring, Wanted
from tulle_wireguard.messages import INITIATION
from tulle_wireguard.outputs import Outputs

UNIX_NS = 1_767_225_600 * 10**9
MTU = 1420
DELAY_S = 0.005


def packet(number: int) -> bytes:
    head = bytes([0x45, 0]) + (24).to_bytes(2) + bytes([0, 0, 0x40, 0, 64, 253, 0, 0])
    return head + bytes([10, 42, 1, 2, 10, 42, 2, 2]) + number.to_bytes(4)


class Flying(NamedTuple):
    at: float
    number: int
    to: int
    source: Endpoint
    datagram: bytes


class Pair:
    """Two nodes; `keys[i]` is the private key of node i, `former[i]` the one before while it is told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.rng = random.Random(5)
        self.places = [Endpoint(bytes([192, 0, 2, i + 1]), 51820) for i in range(2)]
        self.keys = [self.rng.randbytes(32) for _ in range(2)]
        self.rings: list[Keyring[str]] = [self._made(i) for i in range(2)]
        self.air: list[Flying] = []
        self.received: list[list[bytes]] = [[], []]
        self.wire: list[bytes] = []
        self.count = 0
        self.blocked: Callable[[int], bool] = lambda to: False
        for i in range(2):
            self.learn(i)

    def _made(self, i: int) -> Keyring[str]:
        ring: Keyring[str] = Keyring(self.rng.randbytes, lambda: UNIX_NS + int(self.now * 1e9))
        ring.configure(self.keys[i], b"", MTU, self.now)
        return ring

    def learn(self, i: int, former: bytes = b"") -> None:
        """Node i reads the other's lease."""
        wanted = Wanted(
            public_key(self.keys[1 - i]),
            public_key(former) if former else b"",
            endpoints=[self.places[1 - i]],
        )
        self.rings[i].set_peer("peer", wanted, self.now)

    def rotate(self, i: int) -> bytes:
        """A new key at node i, which nobody has heard of yet. Returns the old one."""
        old, self.keys[i] = self.keys[i], self.rng.randbytes(32)
        self.rings[i].configure(self.keys[i], old, MTU, self.now)
        return old

    def act(self, i: int, outputs: Outputs) -> None:
        self.received[i] += [one for some in outputs.received for one in some.packets]
        for send in outputs.sends:
            for pieces in send.datagrams:
                datagram = b"".join(pieces)
                self.wire.append(datagram)
                to = next((n for n, place in enumerate(self.places) if place[:2] == send.endpoint[:2]), None)
                if to is not None and not self.blocked(to):
                    self.count += 1
                    self.air.append(Flying(self.now + DELAY_S, self.count, to, self.places[i], datagram))

    def talk(self, seconds: float, every_s: float = 0.01) -> None:
        """Both say something, again and again."""
        end = self.now + seconds
        while self.now < end:
            for i in range(2):
                self.count += 1
                self.act(i, self.rings[i].send("peer", [packet(self.count)], self.now))
            self.pass_time(every_s)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = [when for ring in self.rings if (when := ring.deadline(self.now)) is not None]
            moment = min([*due, *(one.at for one in self.air)], default=end + 1)
            if moment > end:
                self.now = end
                return
            self.now = max(self.now, moment)
            arrived = sorted(one for one in self.air if one.at <= self.now)
            self.air = [one for one in self.air if one.at > self.now]
            for one in arrived:
                self.act(one.to, self.rings[one.to].received([one.datagram], one.source, self.now))
            for i, ring in enumerate(self.rings):
                self.act(i, ring.tick(self.now))

    def flood(self, seconds: float, between: dict[float, Callable[[], object]]) -> None:
        """Both talk, `between` happens at its moments, and all that was said has arrived, once and in order."""
        start, before = self.now, [len(one) for one in self.received]
        said: list[list[bytes]] = [[], []]
        events = sorted(between.items())
        while self.now < start + seconds:
            while events and self.now >= start + events[0][0]:
                events.pop(0)[1]()
            for i in range(2):
                self.count += 1
                one = packet(self.count)
                said[i].append(one)
                self.act(i, self.rings[i].send("peer", [one], self.now))
            self.pass_time(0.01)
        self.pass_time(1.0)
        assert self.received[1][before[1] :] == said[0]
        assert self.received[0][before[0] :] == said[1]

    def handshakes(self) -> int:
        return sum(one[0] == INITIATION for one in self.wire)

    def keys_in_use(self) -> list[bytes]:
        """Of each node, the key of the other that its sessions are with: those of the leg that is used."""
        found = []
        for ring in self.rings:
            ((_, legs),) = ring.peers()
            found.append(next(peer.public for peer in legs if peer.pairs.current is not None))
        return found


@pytest.fixture
def pair() -> Pair:
    made = Pair()
    made.act(0, made.rings[0].send("peer", [packet(0)], made.now))  # one begins: not both at the same moment
    made.pass_time(0.1)
    made.flood(0.5, {})
    return made


def test_a_replaced_key_costs_no_packet_whenever_the_other_hears_of_it(pair: Pair) -> None:
    old: list[bytes] = []
    pair.flood(
        40.0,
        {
            1.0: lambda: old.append(pair.rotate(0)),
            30.0: lambda: pair.learn(1, former=old[0]),
        },
    )
    assert pair.keys_in_use()[1] == public_key(pair.keys[0])


def test_the_new_key_is_used_at_once_by_who_has_heard_of_it(pair: Pair) -> None:
    old = pair.rotate(0)
    pair.flood(1.0, {0.5: lambda: pair.learn(1, former=old)})
    assert pair.keys_in_use()[1] == public_key(pair.keys[0])


def test_when_the_old_key_has_gone_everything_goes_on_with_the_new(pair: Pair) -> None:
    old: list[bytes] = []
    pair.flood(
        400.0,
        {
            1.0: lambda: old.append(pair.rotate(0)),
            1.2: lambda: pair.learn(1, former=old[0]),
            301.0: lambda: pair.rings[0].configure(pair.keys[0], b"", MTU, pair.now),
            302.0: lambda: pair.learn(1),
        },
    )
    assert pair.rings[0].holder(public_key(pair.keys[1])) == "peer"
    assert pair.rings[1].holder(public_key(old[0])) is None


def test_both_may_replace_theirs_at_the_same_time(pair: Pair) -> None:
    old: list[bytes] = []
    pair.flood(
        20.0,
        {
            1.0: lambda: old.extend((pair.rotate(0), pair.rotate(1))),
            3.0: lambda: pair.learn(1, former=old[0]),
            9.0: lambda: pair.learn(0, former=old[1]),
        },
    )
    assert pair.keys_in_use() == [public_key(pair.keys[1]), public_key(pair.keys[0])]


def test_a_key_is_replaced_while_sessions_are_renewed(pair: Pair) -> None:
    """Two minutes are the age at which a session gets a successor (REKEY_AFTER_TIME)."""
    old: list[bytes] = []
    pair.flood(
        140.0, {118.9: lambda: old.append(pair.rotate(1)), 119.6: lambda: pair.learn(0, former=old[0])}
    )


def test_a_key_without_grace_is_refused_and_the_new_one_taken(pair: Pair) -> None:
    pair.keys[0] = pair.rng.randbytes(32)
    pair.rings[0].configure(pair.keys[0], b"", MTU, pair.now)
    pair.learn(1)
    assert pair.rings[1].holder(public_key(pair.keys[0])) == "peer"
    pair.talk(0.1)  # what is on its way under the old key is lost
    pair.flood(1.0, {})
    assert pair.keys_in_use()[1] == public_key(pair.keys[0])


def test_a_key_without_grace_ends_what_the_old_one_began(pair: Pair) -> None:
    """Not one packet more is sent in its sessions, also not by a successor; with grace there would be no handshake."""
    before, wire = pair.handshakes(), len(pair.wire)
    pair.keys[0] = pair.rng.randbytes(32)
    pair.rings[0].configure(pair.keys[0], b"", MTU, pair.now)
    state = pair.rings[0].export_state()
    pair.rings[0] = pair._made(0)
    pair.learn(0)
    pair.rings[0].import_state(state)
    pair.act(0, pair.rings[0].send("peer", [packet(1)], pair.now))
    pair.pass_time(1.0)
    assert pair.handshakes() == before + 1
    assert [one[0] for one in pair.wire[wire:]] == [INITIATION]


def test_one_that_knows_the_old_key_alone_can_still_begin(pair: Pair) -> None:
    pair.rotate(0)
    pair.rings[1] = pair._made(1)
    pair.learn(1)  # of the new key...
    old_private = pair.keys[0]
    pair.rotate(0)  # ...which is the old one now
    pair.rings[1].set_peer("peer", Wanted(public_key(old_private), endpoints=[pair.places[0]]), pair.now)
    before = len(pair.received[0])
    pair.act(1, pair.rings[1].send("peer", [packet(77)], pair.now))
    pair.pass_time(1.0)
    assert pair.received[0][before:] == [packet(77)]


@pytest.mark.parametrize("sender", [0, 1])
def test_packets_that_go_one_way_alone_are_not_lost_either(pair: Pair, sender: int) -> None:
    """Whoever hears of a new key asks at once: who sends may not be known by it yet, and asks again in five seconds."""
    pair.pass_time(3.0)
    old: list[bytes] = []
    steps: dict[float, Callable[[], object]] = {
        0.5: lambda: old.append(pair.rotate(0)),
        0.55: lambda: pair.learn(1, former=old[0]),
        1.5: lambda: pair.rings[0].configure(pair.keys[0], b"", MTU, pair.now),
        1.6: lambda: pair.learn(1),
    }
    said: list[bytes] = []
    start, before = pair.now, len(pair.received[1 - sender])
    while pair.now < start + 3.0:
        for moment in [one for one in steps if pair.now >= start + one]:
            steps.pop(moment)()
        said.append(packet(len(said)))
        pair.act(sender, pair.rings[sender].send("peer", [said[-1]], pair.now))
        pair.pass_time(0.01)
    pair.pass_time(0.5)
    assert pair.received[1 - sender][before:] == said


def test_an_idle_pair_makes_no_handshake_for_a_key_that_was_replaced(pair: Pair) -> None:
    pair.pass_time(30.0)
    before = pair.handshakes()
    old = pair.rotate(0)
    pair.learn(1, former=old)
    pair.pass_time(60.0)
    assert pair.handshakes() == before


def test_sessions_of_both_keys_go_to_another_process(pair: Pair) -> None:
    old = pair.rotate(0)
    pair.flood(0.1, {})
    state = pair.rings[0].export_state()
    before = pair.handshakes()
    pair.rings[0] = Keyring(pair.rng.randbytes, lambda: UNIX_NS + int(pair.now * 1e9))
    pair.rings[0].configure(pair.keys[0], old, MTU, pair.now)
    pair.learn(0)
    pair.rings[0].import_state(state)
    pair.pass_time(4.0)
    silent = pair.handshakes()
    assert silent == before, "the sessions are there, nobody needs to ask"
    pair.flood(0.5, {})


def test_a_peer_that_moved_is_looked_for_where_it_was_heard(pair: Pair) -> None:
    moved = Endpoint(bytes([198, 51, 100, 7]), 4000)
    pair.places[0] = moved
    pair.talk(0.1)  # what is on its way to the old place is lost
    pair.flood(0.5, {})
    lease = pair.places[0]
    old = pair.rotate(0)
    pair.places[0] = Endpoint(bytes([192, 0, 2, 1]), 51820)
    pair.learn(1, former=old)  # the lease says the first place still
    pair.places[0] = lease
    ((_, legs),) = pair.rings[1].peers()
    assert [peer.where.current is not None and peer.where.current[:2] for peer in legs] == [moved[:2]] * 2


def test_two_peers_never_share_a_key_not_even_a_former_one(pair: Pair) -> None:
    theirs = public_key(pair.keys[1])
    for wanted in (Wanted(theirs), Wanted(public_key(b"x" * 32), former=theirs)):
        with pytest.raises(ValueError, match="two peers have the public key"):
            pair.rings[0].set_peer("another", wanted, pair.now)
    assert pair.rings[0].holder(public_key(b"x" * 32)) is None
    pair.flood(0.2, {})


def test_a_peer_that_is_refused_leaves_nothing(pair: Pair) -> None:
    for wanted in (Wanted(bytes(32)), Wanted(public_key(b"x" * 32), former=bytes([1, *bytes(31)]))):
        with pytest.raises(ValueError, match="no usable public key"):
            pair.rings[0].set_peer("odd", wanted, pair.now)
        assert pair.rings[0].holder(wanted.public) is None
    assert [which for which, _ in pair.rings[0].peers()] == ["peer"]
    with pytest.raises(ValueError, match="our own public key"):
        pair.rings[0].set_peer("me", Wanted(public_key(pair.keys[0])), pair.now)


def test_a_peer_whose_key_becomes_ours_is_none(pair: Pair) -> None:
    pair.rings[0].configure(pair.keys[1], b"", MTU, pair.now)
    assert list(pair.rings[0].peers()) == []
    pair.act(0, pair.rings[0].send("peer", [packet(1)], pair.now))
    pair.rings[0].remove_peer("peer")
    assert pair.rings[0].holder(public_key(pair.keys[1])) is None


def test_totals_do_not_go_back_when_keys_go(pair: Pair) -> None:
    def totals() -> tuple[int, int]:
        ((_, legs),) = pair.rings[1].peers()
        return sum(one.sent_bytes for one in legs), sum(one.received_bytes for one in legs)

    before = totals()
    old = pair.rotate(0)
    pair.learn(1, former=old)
    assert totals() == before
    pair.flood(1.0, {})
    before = totals()
    pair.learn(1)
    assert totals() == before
    pair.rings[0].configure(pair.keys[0], b"", MTU, pair.now)
    pair.act(1, pair.rings[1].received([b"\x01" * 148], pair.places[0], pair.now))
    assert sum(pair.rings[1].counters().values()) > 0


def test_a_state_that_is_none_is_refused(pair: Pair) -> None:
    for state in (b"", b"\xff", b"\x91\xc4\x01x"):
        with pytest.raises(ValueError, match="no WireGuard sessions"):
            pair.rings[0].import_state(state)


def test_without_a_key_there_are_no_peers() -> None:
    ring: Keyring[str] = Keyring(random.Random(1).randbytes, lambda: UNIX_NS)
    with pytest.raises(ValueError, match="no private key yet"):
        ring.set_peer("peer", Wanted(public_key(b"x" * 32)), 0.0)
    assert ring.received([b"\x01" * 148], Endpoint(bytes(4), 1), 0.0).sends == []
    assert (ring.deadline(0.0), ring.export_state()) == (None, b"")
