"""WireGuard keeps the contract of encapsulations that authenticate."""

from __future__ import annotations

import errno
import random
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from tulle.contracts.encapsulation import Encapsulation, PathId, Paths, PeerId, Remote
from tulle.testing.encapsulation_contract import (
    NODES,
    SECOND_PLACE,
    EncapsulationContract,
    End,
    inner,
    pass_time,
)
from tulle.testing.encapsulation_wire import PORT, address_at
from tulle_wireguard.constants import HANDSHAKE_DS
from tulle_wireguard.crypto import public_key
from tulle_wireguard.encapsulation import WireGuard

PRIVATE = {node: random.Random(f"key of {node}").randbytes(32) for node in NODES}


def text(key: bytes) -> str:
    return b64encode(key).decode()


class TestWireGuard(EncapsulationContract):
    authenticates = True
    tells = True

    def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
        return WireGuard(paths, random_bytes, lambda: 1_767_225_600 * 10**9)

    def options_of(self, node: str) -> Mapping[str, Any]:
        return {"PrivateKey": text(PRIVATE[node])}

    def settings_of(self, node: str) -> Mapping[str, Any]:
        return {"PublicKey": text(public_key(PRIVATE[node]))}

    def test_a_removed_peer_is_neither_sealed_for_nor_named(self) -> None:
        """As the contract has it, but what is sent in a session that the other side has forgotten is lost: the silence
        is noticed after 15 s (paper section 6.5)."""
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, b, a_at_b, a, b_at_a, b"before")
        a.forget(b_at_a)
        said = len(wire.seen)
        a.send(b_at_a, [inner("a", "b")])
        assert wire.seen[said:] == []
        before = len(a.received)
        b.send(a_at_b, [inner("b", "a")])
        assert a.received[before:] == []
        a.knows("b")
        pass_time(wire, lambda: False, 16.0)
        self.talk(wire, b, a_at_b, a, b_at_a, b"known again")

    def test_datagrams_carry_the_marks_of_what_is_inside_and_of_what_they_are(self) -> None:
        """Handshakes have the DS byte 0x88, data the inner packet's ECN bits (RFC 6040); what met congestion outside
        is marked inside."""
        wire, a, b, b_at_a, a_at_b = self.pair()
        ((handshake, _),) = a.sealed(b_at_a, [inner("a", "b")])
        assert handshake.ds == HANDSHAKE_DS
        self.talk(wire, b, a_at_b, a, b_at_a, b"session")
        ect0 = bytearray(inner("a", "b", b"marked"))
        ect0[1] |= 0b10
        ((remote, datagrams),) = a.sealed(b_at_a, [bytes(ect0)])
        assert remote.ds == 0b10
        here = Remote(address_at(1), PORT, remote.address)
        before = len(b.received)
        b.hear(here._replace(ds=0b11), datagrams)
        ((_, packet),) = b.received[before:]
        assert packet[1] & 0b11 == 0b11

    def test_answers_leave_from_the_address_that_was_sent_to_until_the_kernel_refuses_it(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, a, b_at_a, b, a_at_b, b"before")
        ((remote, _),) = b.sealed(a_at_b, [inner("b", "a")])
        assert remote == Remote(address_at(1), PORT, address_at(2))
        b.encapsulation.send_failed(b.path_to(remote), errno.EMSGSIZE, wire.now)
        ((again, _),) = b.sealed(a_at_b, [inner("b", "a")])
        assert again == remote
        b.encapsulation.send_failed(b.path_to(remote), errno.EADDRNOTAVAIL, wire.now)
        ((free, _),) = b.sealed(a_at_b, [inner("b", "a")])
        assert free == Remote(address_at(1), PORT)

    def test_what_waited_for_a_session_is_sent_by_the_datagram_that_proves_it(self) -> None:
        """The responder may send only after it has heard from the initiator in the session: `open` sends it."""
        _, a, b, b_at_a, a_at_b = self.pair()
        ((_, initiation),) = a.sealed(b_at_a, [inner("a", "b", b"there")])
        ((_, response),) = b.hear(self.seen_from(1, 2), initiation)
        back = inner("b", "a", b"back")
        assert b.sealed(a_at_b, [back]) == []  # it waits
        ((_, data),) = a.hear(self.seen_from(2, 1), response)
        ((_, answer),) = b.hear(self.seen_from(1, 2), data)
        assert b.packets_from(a_at_b) == [inner("a", "b", b"there")]
        a.hear(self.seen_from(2, 1), answer)
        assert a.packets_from(b_at_a) == [back]

    @staticmethod
    def seen_from(there: int, here: int) -> Remote:
        return Remote(address_at(there), PORT, address_at(here))

    def test_a_successor_sends_to_where_the_peer_was_heard_last(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, a, b_at_a, b, a_at_b, b"before")
        b.send(a_at_b, [inner("b", "a", b"moved")], SECOND_PLACE)
        successor = End(wire, "a", self)
        successor.knows("b")
        successor.encapsulation.import_state(a.encapsulation.export_state())
        ((remote, _),) = successor.sealed(b_at_a, [inner("a", "b")])
        assert remote == Remote(address_at(2 + SECOND_PLACE), PORT, address_at(1))

    def test_the_report_tells_place_handshake_and_bytes_on_the_wire(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        assert a.encapsulation.report(wire.now) == {
            b_at_a: {"endpoint": f"192.0.2.2:{PORT}", "received-bytes": 0, "sent-bytes": 0}
        }
        said = len(wire.seen)
        self.talk(wire, a, b_at_a, b, a_at_b, b"talk")
        told = a.encapsulation.report(wire.now + 7)[b_at_a]
        sent = sum(len(one) for sender, _, one in wire.seen[said:] if sender == "a")
        received = sum(len(one) for sender, _, one in wire.seen[said:] if sender == "b")
        assert (told["sent-bytes"], told["received-bytes"]) == (sent, received)
        assert told["last-handshake"] == pytest.approx(7.0, abs=0.1)

    def test_an_ipv6_endpoint_is_reported_in_brackets(self) -> None:
        wire, a, _, _, _ = self.pair()
        far = Remote(bytes.fromhex("20010db8") + bytes(11) + b"\x07", 5)
        a.encapsulation.set_peer(PeerId(9), [a.path_to(far)], self.settings_of("c"), wire.now)
        assert a.encapsulation.report(wire.now)[PeerId(9)]["endpoint"] == "[2001:db8::7]:5"

    def secrets_of(self, node: str) -> Iterable[str]:
        return [text(PRIVATE[node]), PRIVATE[node].hex()]

    def test_two_peers_with_one_key_are_refused(self) -> None:
        _, a, _, _, _ = self.pair()
        with pytest.raises(ValueError, match="two peers have the public key"):
            a.encapsulation.set_peer(PeerId(9), [], self.settings_of("b"), 0.0)

    def test_a_peer_with_another_key_has_none_of_the_old_sessions(self) -> None:
        wire, a, b, b_at_a, a_at_b = self.pair()
        self.talk(wire, a, b_at_a, b, a_at_b, b"before")
        a.encapsulation.set_peer(b_at_a, [PathId(2)], self.settings_of("c"), wire.now)
        before = len(a.received)
        b.send(a_at_b, [inner("b", "a")])
        assert len(a.received) == before

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"PublicKey": 5},
            {"PublicKey": "short"},
            {"PublicKey": "!" * 44},
            {"PublicKey": text(bytes(32))},
        ],
    )
    def test_settings_that_are_none_are_refused(self, settings: Mapping[str, Any]) -> None:
        _, a, _, _, _ = self.pair()
        with pytest.raises(ValueError, match=r"WireGuard|PublicKey|public key"):
            a.encapsulation.set_peer(PeerId(9), [], settings, 0.0)
