"""What every engine must do, whatever it is made of. Inherit, and give `make_engine`."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tulle.contracts.encapsulation import Encapsulation, Paths
from tulle.contracts.engine import Engine, Local, MakeEncapsulation
from tulle.net import gso
from tulle.net.checksum import checksum, fold, pseudo_header_sum, word_sum
from tulle.net.packet import ICMP, TCP
from tulle.testing.engine_rig import EngineRig, PeerSocket
from tulle.testing.packets import packet

LOCAL = Local(prefixes=("10.42.1.0/24", "fd42:1::/64"), icmp_sources=("10.42.1.0", "fd42:1::"), mtu=1400)
OURS, THEIRS, STRANGE = "10.42.1.2", "10.42.2.2", "10.42.3.2"


class EngineContract:
    """`make_engine(make_encapsulation) -> Engine`; `make_encapsulation(paths)` must be the wire of plain udp: the
    packet is the datagram."""

    def make_engine(self, make_encapsulation: MakeEncapsulation) -> Engine:
        raise NotImplementedError

    def make_encapsulation(self, paths: Paths) -> Encapsulation:
        raise NotImplementedError

    @contextmanager
    def rig(self, local: Local = LOCAL, family: int = 4) -> Iterator[tuple[EngineRig, PeerSocket]]:
        """An engine with one peer that has 10.42.2.0/24 and fd42:2::/64."""
        with (
            PeerSocket(family) as peer,
            EngineRig(self.make_engine, self.make_encapsulation, local, (family,)) as rig,
        ):
            rig.set_peer("peer", ("10.42.2.0/24", "fd42:2::/64"), [peer.address])
            yield rig, peer

    @pytest.mark.parametrize("outer", [4, 6])
    @pytest.mark.parametrize(("here", "there"), [(OURS, THEIRS), ("fd42:1::2", "fd42:2::2")])
    def test_a_packet_reaches_the_peer_and_the_answer_comes_back_unchanged(
        self, outer: int, here: str, there: str
    ) -> None:
        with self.rig(family=outer) as (rig, peer):
            out, back = packet(here, there, b"ping" * 50), packet(there, here, b"pong" * 50)
            rig.send(out)
            assert peer.receive() == out
            peer.send(rig, back)
            assert rig.receive() == back

    def test_a_burst_arrives_whole_and_in_order_whatever_the_sizes(self) -> None:
        sizes = random.Random(1)
        with self.rig() as (rig, peer):
            burst = [
                packet(OURS, THEIRS, struct.pack("!I", n) + bytes(sizes.choice([0, 8, 900])))
                for n in range(300)
            ]
            for one in burst:
                rig.send(one)
            assert [peer.receive() for _ in burst] == burst

    def test_a_received_burst_arrives_whole_and_in_order(self) -> None:
        with self.rig() as (rig, peer):
            burst = [packet(THEIRS, OURS, struct.pack("!I", n) + bytes(100)) for n in range(300)]
            for one in burst:
                peer.send(rig, one)
            assert [rig.receive() for _ in burst] == burst

    def test_packets_from_a_stranger_are_dropped_and_counted(self) -> None:
        with self.rig() as (rig, _), PeerSocket(host="127.0.0.2") as stranger:
            stranger.send(rig, packet(THEIRS, OURS))
            assert rig.nothing_received()
            assert rig.counters()["drop-unknown-peer"] == 1

    def test_a_peer_on_another_port_is_still_the_peer(self) -> None:
        """NAT may change ports; plain udp knows peers by address."""
        with self.rig() as (rig, _), PeerSocket() as same_host:
            good = packet(THEIRS, OURS)
            same_host.send(rig, good)
            assert rig.receive() == good

    def test_an_inner_source_that_is_not_the_peers_is_dropped_and_counted(self) -> None:
        with self.rig() as (rig, peer):
            peer.send(rig, packet(STRANGE, OURS))
            peer.send(rig, packet(OURS, OURS))
            assert rig.nothing_received()
            assert rig.counters()["drop-source"] == 2

    def test_a_source_of_another_peer_is_dropped(self) -> None:
        with self.rig() as (rig, peer):
            rig.set_peer("other", ["10.42.3.0/24"], [("127.0.0.3", 9)])
            peer.send(rig, packet(STRANGE, OURS))
            assert rig.nothing_received()
            assert rig.counters()["drop-source"] == 1

    def test_two_peers_behind_one_address_may_both_send(self) -> None:
        with self.rig() as (rig, peer):
            rig.set_peer("other", ["10.42.3.0/24"], [peer.address])
            for source in (THEIRS, STRANGE):
                good = packet(source, OURS)
                peer.send(rig, good)
                assert rig.receive() == good

    def test_a_destination_that_is_not_ours_is_dropped_and_counted(self) -> None:
        with self.rig() as (rig, peer):
            peer.send(rig, packet(THEIRS, STRANGE))
            assert rig.nothing_received()
            assert rig.counters()["drop-destination"] == 1

    def test_source_check_peer_asks_for_the_outer_address_only(self) -> None:
        with self.rig(Local(prefixes=LOCAL.prefixes, source_check="peer")) as (rig, peer):
            foreign = packet("192.0.2.1", OURS)
            peer.send(rig, foreign)
            assert rig.receive() == foreign
            with PeerSocket(host="127.0.0.2") as stranger:
                stranger.send(rig, foreign)
                assert rig.nothing_received()

    def test_the_longest_prefix_wins_whatever_the_order(self) -> None:
        with self.rig() as (rig, peer), PeerSocket(host="127.0.0.4") as narrow:
            rig.set_peer("narrow", ["10.42.2.128/25"], [narrow.address])
            low, high = packet(OURS, "10.42.2.1"), packet(OURS, "10.42.2.200")
            rig.send(low)
            rig.send(high)
            assert peer.receive() == low
            assert narrow.receive() == high

    def test_a_destination_without_a_peer_is_answered_by_icmp(self) -> None:
        with self.rig() as (rig, _):
            lost = packet(OURS, STRANGE, b"where")
            rig.send(lost)
            answer = rig.receive()
            assert answer[9] == ICMP
            assert answer[20:22] == bytes((3, 0))
            assert answer[16:20] == lost[12:16]
            assert answer[28 : 28 + len(lost)] == lost
            assert checksum(answer[:20]) == checksum(answer[20:]) == 0

    def test_icmp_errors_are_limited_in_rate(self) -> None:
        with self.rig() as (rig, _):
            for _ in range(500):
                rig.send(packet(OURS, STRANGE))
            seen = 0
            while not rig.nothing_received():
                rig.receive()
                seen += 1
            assert rig.counters()["drop-no-route"] == 500
            assert 1 <= seen < 200

    def test_a_removed_peer_is_neither_sent_to_nor_heard(self) -> None:
        with self.rig() as (rig, peer):
            rig.control.do(lambda: rig.engine.remove_peer("peer"))
            peer.send(rig, packet(THEIRS, OURS))
            rig.send(packet(OURS, THEIRS))
            assert rig.receive()[9] == ICMP
            assert rig.counters()["drop-unknown-peer"] == 1

    def test_a_peer_that_moved_is_sent_to_at_its_new_place(self) -> None:
        with self.rig() as (rig, peer), PeerSocket(host="127.0.0.5") as moved:
            rig.send(packet(OURS, THEIRS))
            peer.receive()
            rig.set_peer("peer", ["10.42.2.0/24"], [moved.address])
            rig.send(packet(OURS, THEIRS, b"moved"))
            assert moved.receive() == packet(OURS, THEIRS, b"moved")

    def test_hostile_datagrams_are_dropped_and_counted_and_the_talk_goes_on(self) -> None:
        noise = random.Random(2)
        whole = packet(THEIRS, OURS, b"x" * 64)
        hostile = [whole[:cut] for cut in range(len(whole))] + [whole + b"more", b"", b"\0" * 20]
        hostile += [noise.randbytes(noise.randrange(1, 200)) for _ in range(200)]
        with self.rig() as (rig, peer):
            for one in hostile:
                peer.send(rig, one)
            peer.send(rig, whole)
            assert rig.receive() == whole
            drops = {name: value for name, value in rig.counters().items() if name.startswith("drop-")}
            assert sum(drops.values()) == len(hostile)

    def test_a_super_packet_of_an_earlier_engine_is_split(self) -> None:
        payload = random.Random(3).randbytes(3000)
        tcp = struct.pack("!HHIIBBHHH", 1000, 80, 7, 9, 5 << 4, 0x18, 500, 0, 0)
        big = packet(OURS, THEIRS, tcp + payload, protocol=TCP)
        header = gso.pack(gso.Header(gso.NEEDS_CSUM, gso.GSO_TCPV4, 40, 1000, 20, 16))
        with self.rig() as (rig, peer):
            rig.send(big, header)
            pieces = [peer.receive() for _ in range(3)]
        assert b"".join(piece[40:] for piece in pieces) == payload
        for number, piece in enumerate(pieces):
            assert struct.unpack_from("!I", piece, 24)[0] == 7 + number * 1000
            total = pseudo_header_sum(piece[12:16], piece[16:20], TCP, len(piece) - 20) + word_sum(piece[20:])
            assert fold(total) == 0

    def test_traffic_is_counted_by_peer(self) -> None:
        with self.rig() as (rig, peer):
            rig.send(packet(OURS, THEIRS, b"12345678"))
            peer.receive()
            peer.send(rig, packet(THEIRS, OURS))
            rig.receive()
            found: dict[str, object] = {}
            rig.control.do(lambda: found.update(rig.engine.peer_counters()["peer"]))
            assert found.pop("last-seen", None) is not None
            assert found == {"packets-out": 1, "bytes-out": 28, "packets-in": 1, "bytes-in": 20}
            totals = rig.counters()
            assert (totals["packets-out"], totals["packets-in"]) == (1, 1)
