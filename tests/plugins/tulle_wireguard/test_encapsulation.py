"""WireGuard keeps the contract of encapsulations that authenticate."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tulle.contracts.encapsulation import Encapsulation, PathId, Paths, PeerId
from tulle.testing.encapsulation_contract import NODES, EncapsulationContract, inner, pass_time
from tulle_wireguard.crypto import public_key
from tulle_wireguard.encapsulation import WireGuard

PRIVATE = {node: random.Random(f"key of {node}").randbytes(32) for node in NODES}


def text(key: bytes) -> str:
    return b64encode(key).decode()


class TestWireGuard(EncapsulationContract):
    authenticates = True

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

    def test_two_peers_with_one_key_are_refused(self) -> None:
        _, a, _, _, _ = self.pair()
        with pytest.raises(ValueError, match="two peers have the public key"):
            a.encapsulation.set_peer(PeerId(9), [PathId(9)], self.settings_of("b"), 0.0)

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
