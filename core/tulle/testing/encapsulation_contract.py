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

import errno
import random
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import pytest

from tulle.contracts.encapsulation import Encapsulation, PathId, Paths, PeerId
from tulle.testing.encapsulation_wire import NODES as NODES
from tulle.testing.encapsulation_wire import SECOND_PLACE as SECOND_PLACE
from tulle.testing.encapsulation_wire import End as End
from tulle.testing.encapsulation_wire import KnownPaths as KnownPaths
from tulle.testing.encapsulation_wire import Wire as Wire
from tulle.testing.encapsulation_wire import pass_time as pass_time
from tulle.testing.packets import packet

POD = {"a": "10.42.1.2", "b": "10.42.2.2", "c": "10.42.3.2"}
HOSTILE = 300
ERRORS = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EINVAL, errno.EMSGSIZE, errno.EPERM, 9999)
REPEATS = 200
"""A datagram that comes so often is more than is worked off at once."""
ASKINGS = 16
"""Before a deadline, and as many behind it."""
SOON_S = 0.001
"""Where a deadline is due already, an engine asks again within this."""
ROUNDING_S = 1e-6
"""Seconds since the boot are floats: what is computed from them is not exact."""
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class EncapsulationContract:
    """See the module. `make_end` must be overridden; the other two where there are settings."""

    authenticates = False
    """True: a datagram that was changed, repeated, or sealed by another is never delivered."""
    tells = False
    """True: its sockets have `Listen.tells`: paths know our own address and the DS byte."""

    def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
        raise NotImplementedError(f"{type(self).__name__} must override make_end")

    def options_of(self, node: str) -> Mapping[str, Any]:
        """The node's own settings (`configure`); nodes are "a", "b" and "c"."""
        return {}

    def settings_of(self, node: str) -> Mapping[str, Any]:
        """What others are told of the node (`set_peer`)."""
        return {}

    def secrets_of(self, node: str) -> Iterable[str]:
        """What nobody may be shown; all text of the node's settings where that is not said."""
        return [one for one in self.options_of(node).values() if isinstance(one, str)]

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
        for place in (1, 3):
            for one in hostile:
                b.hear_at(place, [one])
            b.hear_at(place, hostile)
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
                b.hear_at(1, [one])
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
        assert {place for sender, place, _ in wire.seen[said:] if sender == "a"} == {2 + SECOND_PLACE}

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
            b.hear_at(1 + 2 * (round_ % 2), [noise.randbytes(50)])
            b.received.clear()
            counters = dict(b.encapsulation.counters())
            assert all(map(NAME.fullmatch, counters))
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
            wire.carry("a", a.sealed(b_at_a, [inner("a", "b")]))
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

    def test_what_both_say_at_once_arrives_with_no_time_passing(self) -> None:
        """Nothing is lost on the way, so nothing may wait for a clock: what a datagram leads to is sent at once."""
        wire, a, b, b_at_a, a_at_b = self.pair()
        there, back = inner("a", "b", b"there"), inner("b", "a", b"back")
        from_a, from_b = a.sealed(b_at_a, [there]), b.sealed(a_at_b, [back])
        wire.carry("a", from_a)
        wire.carry("b", from_b)
        assert b.packets_from(a_at_b) == [there]
        assert a.packets_from(b_at_a) == [back]

    def test_after_a_tick_the_next_one_is_later(self) -> None:
        """For an hour, whatever was said before."""
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, a, b_at_a, b, a_at_b, b"before")
        end = wire.now + 3600
        pass_time(wire, lambda: wire.now >= end, 3600)
        self.talk(wire, b, a_at_b, a, b_at_a, b"behind")

    def test_asking_for_a_deadline_does_not_put_it_off(self) -> None:
        """An engine asks before each wait: a deadline that is always a little ahead never comes."""
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.ask_again_and_again(b, a)
        a.sealed(b_at_a, [inner("a", "b", b"is anybody there?")])  # it is lost
        self.ask_again_and_again(b, a)
        self.talk(wire, a, b_at_a, b, a_at_b, b"before")
        for one in [one for sender, _, one in wire.seen if sender == "a"]:
            b.hear_at(1, [one] * REPEATS)
        self.ask_again_and_again(b, a)
        self.talk(wire, b, a_at_b, a, b_at_a, b"behind")

    def ask_again_and_again(self, *ends: End) -> None:
        """Nothing else happens, until well behind the deadline: it comes no later than was said first."""
        for end in ends:
            first = end.deadline
            if first is None:
                continue
            step = max(first - end.wire.now, SOON_S) / ASKINGS
            for _ in range(2 * ASKINGS):
                end.wire.now += step
                again = end.deadline
                assert again is not None, "a deadline that was said, and has not come, is gone"
                assert again <= max(first, end.wire.now) + ROUNDING_S, "who asks for the deadline puts it off"
        for end in ends:
            end.tick()

    def test_a_failed_send_is_survived(self) -> None:
        """On paths of peers and on paths that nobody knows, before, between and after datagrams."""
        wire, a, b, b_at_a, a_at_b = self.pair()
        for tag in (b"before", b"behind"):
            for error in ERRORS:
                for path in (PathId(2), PathId(2 + SECOND_PLACE), PathId(3), PathId(999)):
                    a.encapsulation.send_failed(path, error, wire.now)
                self.refuse(a, b_at_a, error)
            a.send(b_at_a, [inner("a", "b", b"is anybody there?")])
            pass_time(wire, lambda: False)
            b.received.clear()  # what was sealed for the kernel in vain may have waited, and come too
            self.talk(wire, a, b_at_a, b, a_at_b, tag)
            self.talk(wire, b, a_at_b, a, b_at_a, tag)

    def refuse(self, end: End, peer: PeerId, error: int) -> None:
        """The kernel takes nothing of what is sealed for the peer now."""
        for path, _ in end.encapsulation.seal(peer, [inner(end.node, "c")], end.wire.now):
            end.encapsulation.send_failed(path, error, end.wire.now)

    def test_the_report_is_json_ready_of_known_peers_only_and_without_secrets(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        c_at_a = a.knows("c")
        for _ in range(2):
            report = a.encapsulation.report(wire.now)
            assert set(report) <= {b_at_a, c_at_a}
            for told in report.values():
                assert all(map(NAME.fullmatch, told))
                text = msgspec.json.encode(told)
                assert msgspec.json.decode(text) == told
                assert not any(secret.encode() in text for node in NODES for secret in self.secrets_of(node))
            self.talk(wire, a, b_at_a, b, a_at_b, b"in between")
        a.forget(c_at_a)
        assert c_at_a not in a.encapsulation.report(wire.now)

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
