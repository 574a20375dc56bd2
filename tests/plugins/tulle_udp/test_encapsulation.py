"""Plain UDP keeps the contract of encapsulations, and puts nothing on the wire but the packet."""

from __future__ import annotations

from collections.abc import Callable

from tulle.contracts.encapsulation import Encapsulation, PathId, Paths, PeerId
from tulle.testing.encapsulation_contract import EncapsulationContract, KnownPaths, inner
from tulle_udp.encapsulation import PlainUdp


class TestPlainUdp(EncapsulationContract):
    def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
        return PlainUdp(paths, random_bytes)

    def test_the_datagram_is_the_packet_and_goes_to_the_first_endpoint(self) -> None:
        _, a, _, _, _ = self.pair()
        a.encapsulation.set_peer(PeerId(2), [PathId(7), PathId(8)], {}, 0.0)
        one, two = inner("a", "b", b"1"), inner("a", "b", b"2")
        assert a.encapsulation.seal(PeerId(2), [one, two], 0.0) == ((7, [(one,), (two,)]),)

    def test_packets_for_a_peer_without_an_endpoint_are_dropped_and_counted(self) -> None:
        end = PlainUdp(KnownPaths(PeerId(1)), lambda count: b"")
        assert end.counters() == {}
        end.set_peer(PeerId(1), [PathId(7)], {}, 0.0)
        end.seal(PeerId(1), [inner("a", "b", b"0")], 0.0)
        end.set_peer(PeerId(1), [], {}, 0.0)
        assert end.seal(PeerId(1), [inner("a", "b", b"1"), inner("a", "b", b"2")], 0.0) == ()
        assert end.counters() == {"drop-no-path": 2}

    def test_two_peers_at_one_address_are_both_named(self) -> None:
        opened = PlainUdp(KnownPaths(PeerId(1), PeerId(2)), lambda count: b"").open(PathId(1), [b"x"], 0.0)
        assert opened.deliveries == ((frozenset({1, 2}), [b"x"]),)
        assert opened.others == ()
