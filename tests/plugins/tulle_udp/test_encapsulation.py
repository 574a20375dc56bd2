"""Plain UDP keeps the contract of encapsulations, and puts nothing on the wire but the packet."""

from __future__ import annotations

from collections.abc import Callable

from tulle.contracts.encapsulation import Encapsulation, PathId, Paths, PeerId
from tulle.testing.encapsulation_contract import EncapsulationContract, inner
from tulle_udp.encapsulation import PlainUdp


class TestPlainUdp(EncapsulationContract):
    def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
        return PlainUdp(paths, random_bytes)

    def test_the_datagram_is_the_packet_and_goes_to_the_first_endpoint(self) -> None:
        _, a, _, _, _ = self.pair()
        a.encapsulation.set_peer(PeerId(2), [PathId(7), PathId(8)], {}, 0.0)
        one, two = inner("a", "b", b"1"), inner("a", "b", b"2")
        assert a.encapsulation.seal(PeerId(2), [one, two], 0.0) == ((7, [(one,), (two,)]),)

    def test_two_peers_at_one_address_are_both_named(self) -> None:
        class Shared:
            def peers_at(self, path: PathId) -> frozenset[PeerId]:
                return frozenset({PeerId(1), PeerId(2)})

        opened = PlainUdp(Shared(), lambda count: b"").open(PathId(1), [b"x"], 0.0)
        assert opened.deliveries == ((frozenset({1, 2}), [b"x"]),)
        assert opened.others == ()
