"""What every encapsulation must do: two ends over a wire that is a list, on a clock that tests move.

class TestMine(EncapsulationContract):
    authenticates = True

    def make_end(self, paths, random_bytes):
        return Mine(paths, random_bytes)

    def options_of(self, node):
        return {"PrivateKey": PRIVATE[node]}

    def settings_of(self, node):
        return {"PublicKey": PUBLIC[node]}
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest

from tulle.contracts.encapsulation import Buffer, Encapsulation, Outgoing, PathId, Paths, PeerId
from tulle.testing.packets import packet

NODES = ("a", "b", "c")
"""c is a third node that a and b do not know, unless a test tells them."""
POD = {"a": "10.42.1.2", "b": "10.42.2.2", "c": "10.42.3.2"}
SECOND_PLACE = 10
"""Added to a node's number it is another path to the same node, on another address."""
TALK_S = 20.0
"""Virtual seconds in which a handshake must be over."""
HOSTILE = 300


class Wire:
    """All datagrams that are under way, and the ends that they go to. Paths are numbers of nodes."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ends: dict[str, End] = {}
        self.seen: list[tuple[str, int, bytes]] = []
        """Everything that was sent: by whom, on which path, what."""

    def carry(self, sender: str, outgoing: Sequence[Outgoing], place: int = 0) -> None:
        """Deliver, and whatever is answered, until nobody says anything more."""
        queue = [(sender, path, self._joined(datagrams)) for path, datagrams in outgoing]
        while queue:
            source, path, datagrams = queue.pop(0)
            self.seen += [(source, path, one) for one in datagrams]
            receiver = self.ends.get(node_at(path))
            if receiver is None:
                continue
            back = PathId(NODES.index(source) + 1 + place)
            answers = receiver.hear(back, datagrams)
            queue += [(receiver.node, to, self._joined(many)) for to, many in answers]

    @staticmethod
    def _joined(datagrams: Iterable[Sequence[Buffer]]) -> list[bytes]:
        return [b"".join(bytes(piece) for piece in datagram) for datagram in datagrams]


def node_at(path: int) -> str:
    return NODES[(path - 1) % SECOND_PLACE]


class End:
    """One node: its encapsulation, the peers it was told of, and what came out."""

    def __init__(self, wire: Wire, node: str, contract: EncapsulationContract) -> None:
        self.wire = wire
        self.node = node
        self.contract = contract
        self.received: list[tuple[frozenset[PeerId], bytes]] = []
        self.deadline: float | None = 0.0
        self._peers_at: dict[int, frozenset[PeerId]] = {}
        self.encapsulation = contract.make_end(self, random.Random(NODES.index(node)).randbytes)
        self.encapsulation.configure(contract.options_of(node), wire.now)
        wire.ends[node] = self

    def peers_at(self, path: PathId) -> frozenset[PeerId]:
        return self._peers_at.get(path, frozenset())

    def knows(self, node: str, place: int = 0) -> PeerId:
        """Tell it of a node, and where that is."""
        number = NODES.index(node) + 1
        self._peers_at = {path: peers - {PeerId(number)} for path, peers in self._peers_at.items()} | {
            number + place: frozenset({PeerId(number)})
        }
        settings = self.contract.settings_of(node)
        peer, path = PeerId(number), PathId(number + place)
        self.encapsulation.set_peer(peer, [path], settings, self.wire.now)
        self.tick()
        return peer

    def forget(self, peer: PeerId) -> None:
        self._peers_at = {path: peers - {peer} for path, peers in self._peers_at.items()}
        self.encapsulation.remove_peer(peer, self.wire.now)
        self.tick()

    def send(self, peer: PeerId, packets: Sequence[Buffer], place: int = 0) -> None:
        self.wire.carry(self.node, self.encapsulation.seal(peer, packets, self.wire.now), place)
        self.tick()

    def hear(self, path: PathId, datagrams: Sequence[bytes]) -> list[Outgoing]:
        """As an engine does: what opens is delivered, the rest goes to `control`."""
        opened = self.encapsulation.open(path, datagrams, self.wire.now)
        for senders, packets in opened.deliveries:
            self.received += [(frozenset(senders), bytes(one)) for one in packets]
        answers: list[Outgoing] = []
        for other in opened.others:
            answers += self.encapsulation.control(path, other, self.wire.now)
        return answers

    def tick(self) -> None:
        outgoing, self.deadline = self.encapsulation.tick(self.wire.now)
        assert self.deadline is None or self.deadline > self.wire.now, (
            "a deadline in the past makes loops spin"
        )
        self.wire.carry(self.node, outgoing)

    def packets_from(self, peer: PeerId) -> list[bytes]:
        return [one for senders, one in self.received if peer in senders]


def pass_time(wire: Wire, done: Callable[[], bool], seconds: float = TALK_S) -> None:
    """Move the clock from deadline to deadline until it is done or the time is over."""
    end = wire.now + seconds
    while not done():
        due = [one.deadline for one in wire.ends.values() if one.deadline is not None]
        if not due or min(due) > end:
            return
        wire.now = max(wire.now, min(due))
        for one in wire.ends.values():
            if one.deadline is not None and one.deadline <= wire.now:
                one.tick()


class EncapsulationContract:
    """See the module. `make_end` must be overridden; the other two where there are settings."""

    authenticates = False
    """True: a datagram that was changed, repeated, or sealed by another is never delivered."""

    def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
        raise NotImplementedError(f"{type(self).__name__} must override make_end")

    def options_of(self, node: str) -> Mapping[str, Any]:
        """The node's own settings (`configure`); nodes are "a", "b" and "c"."""
        return {}

    def settings_of(self, node: str) -> Mapping[str, Any]:
        """What others are told of the node (`set_peer`)."""
        return {}

    def pair(self) -> tuple[Wire, End, End, PeerId, PeerId]:
        """The wire, two ends that know each other, b's number at a and a's number at b."""
        wire = Wire()
        a, b = End(wire, "a", self), End(wire, "b", self)
        return wire, a, b, a.knows("b"), b.knows("a")

    def talk(self, wire: Wire, sender: End, to: PeerId, receiver: End, came: PeerId, tag: bytes) -> None:
        """A few packets go over and arrive unchanged, in order, and under the right name."""
        sent = [inner(sender.node, receiver.node, tag + bytes([n]) * (n * 97 % 1300)) for n in range(20)]
        before = len(receiver.received)
        sender.send(to, sent)
        pass_time(wire, lambda: len(receiver.received) >= before + len(sent))
        assert receiver.received[before:] == [(frozenset({came}), one) for one in sent]

    def test_what_one_end_seals_the_other_opens_unchanged_in_order_and_by_name(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, a, b_at_a, b, a_at_b, b"there")
        self.talk(wire, b, a_at_b, a, b_at_a, b"back")
        self.talk(wire, a, b_at_a, b, a_at_b, b"again")

    def test_no_packets_give_no_deliveries(self) -> None:
        _, a, _, b_at_a, _ = self.pair()
        assert [many for _, many in a.encapsulation.seal(b_at_a, [], a.wire.now) if many] == []
        assert all(not many for _, many in a.encapsulation.open(PathId(2), [], a.wire.now).deliveries)

    def test_the_engines_buffers_may_be_used_again_after_the_send(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        content = inner("a", "b", b"as it was")
        buffer = bytearray(content)
        a.send(b_at_a, [memoryview(buffer)])
        buffer[:] = bytes(len(buffer))
        pass_time(wire, lambda: bool(b.received))
        assert b.packets_from(a_at_b) == [content]

    def test_hostile_bytes_are_never_raised_and_the_talk_goes_on(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, a, b_at_a, b, a_at_b, b"before")
        noise = random.Random(1)
        real = [one for sender, _, one in wire.seen if sender == "a"]
        hostile = [b"", *(noise.randbytes(noise.randrange(1, 200)) for _ in range(HOSTILE))]
        hostile += [changed(noise.choice(real), noise) for _ in range(HOSTILE)]
        before = len(b.received)
        for path in (PathId(1), PathId(3)):
            for one in hostile:
                b.hear(path, [one])
            b.hear(path, hostile)
        b.tick()
        if self.authenticates:
            assert b.received[before:] == []
        del b.received[before:]
        self.talk(wire, a, b_at_a, b, a_at_b, b"behind")

    def test_a_stranger_is_never_taken_for_a_peer(self) -> None:
        """c knows a, but a does not know c."""
        wire, a, _, _, _ = self.pair()
        c = End(wire, "c", self)
        a_at_c = c.knows("a")
        c.send(a_at_c, [inner("b", "a", b"as if by b")])
        pass_time(wire, lambda: False, 3.0)
        assert [senders for senders, _ in a.received if senders] == []

    def test_a_repeated_datagram_is_delivered_once(self) -> None:
        if not self.authenticates:
            pytest.skip("nothing in a datagram tells a repeat")
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, a, b_at_a, b, a_at_b, b"once")
        heard = len(b.received)
        for sender, _, one in list(wire.seen):
            if sender == "a":
                b.hear(PathId(1), [one])
        assert len(b.received) == heard

    def test_a_removed_peer_is_neither_sealed_for_nor_named(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, b, a_at_b, a, b_at_a, b"before")
        a.forget(b_at_a)
        said = len(wire.seen)
        a.send(b_at_a, [inner("a", "b")])
        assert wire.seen[said:] == []
        before = len(a.received)
        b.send(a_at_b, [inner("b", "a")])
        assert [senders for senders, _ in a.received[before:] if senders] == []
        self.talk(wire, b, b.knows("a"), a, a.knows("b"), b"known again")

    def test_a_peer_without_an_endpoint_is_no_error(self) -> None:
        wire = Wire()
        a = End(wire, "a", self)
        a.encapsulation.set_peer(PeerId(2), [], self.settings_of("b"), wire.now)
        a.tick()
        a.send(PeerId(2), [inner("a", "b")])
        assert wire.seen == []

    def test_a_peer_that_moved_is_sent_to_at_its_new_place(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, a, b_at_a, b, a_at_b, b"before")
        a.knows("b", place=SECOND_PLACE)
        said = len(wire.seen)
        self.talk(wire, a, b_at_a, b, a_at_b, b"behind")
        assert {path for sender, path, _ in wire.seen[said:] if sender == "a"} == {2 + SECOND_PLACE}

    def test_a_peer_told_of_again_goes_on_as_it_was(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, a, b_at_a, b, a_at_b, b"before")
        said = len(wire.seen)
        assert a.knows("b") == b_at_a
        assert wire.seen[said:] == []
        self.talk(wire, a, b_at_a, b, a_at_b, b"behind")

    def test_counters_have_stable_names_and_only_grow(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        noise = random.Random(2)
        last: Mapping[str, int] = {}
        for round_ in range(10):
            self.talk(wire, a, b_at_a, b, a_at_b, bytes([round_]))
            b.hear(PathId(1 + 2 * (round_ % 2)), [noise.randbytes(50)])
            b.received.clear()
            counters = dict(b.encapsulation.counters())
            assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in counters)
            assert all(counters.get(name, 0) >= value for name, value in last.items())
            last = counters

    def test_a_successor_takes_the_sessions_over(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, a, b_at_a, b, a_at_b, b"before")
        successor = End(wire, "a", self)
        state = a.encapsulation.export_state()
        successor.knows("b")
        successor.encapsulation.import_state(state)
        successor.tick()
        if state:  # two that seal in one session would use a counter twice
            said = len(wire.seen)
            wire.carry("a", a.encapsulation.seal(b_at_a, [inner("a", "b")], wire.now))
            assert wire.seen[said:] == []
        self.talk(wire, successor, b_at_a, b, a_at_b, b"there")
        self.talk(wire, b, a_at_b, successor, b_at_a, b"back")

    def test_a_state_that_is_none_is_refused_or_ignored(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        noise = random.Random(3)
        for state in (b"", b"\0", noise.randbytes(100)):
            try:
                a.encapsulation.import_state(state)
            except ValueError:
                continue
        self.talk(wire, a, b_at_a, b, a_at_b, b"all the same")

    def test_wrong_options_are_refused_by_value_error(self) -> None:
        """Whatever stands in them: they come from another process."""
        wire = Wire()
        a = End(wire, "a", self)
        for options in ({"no such option": 1}, dict.fromkeys(self.options_of("a"), object)):
            try:
                a.encapsulation.configure(options, wire.now)
            except ValueError:
                continue
        a.encapsulation.configure(self.options_of("a"), wire.now)


def inner(source: str, destination: str, payload: bytes = b"") -> bytes:
    return packet(POD[source], POD[destination], payload)


def changed(datagram: bytes, noise: random.Random) -> bytes:
    """Cut, lengthened, or with one bit turned."""
    match noise.randrange(3):
        case 0:
            return datagram[: noise.randrange(len(datagram))]
        case 1:
            return datagram + noise.randbytes(noise.randrange(1, 20))
    place = noise.randrange(len(datagram))
    return datagram[:place] + bytes([datagram[place] ^ 1 << noise.randrange(8)]) + datagram[place + 1 :]
