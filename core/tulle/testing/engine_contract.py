"""What every engine must do, whatever it is made of. Inherit, and give `make_engine`."""

from __future__ import annotations

import errno
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tulle.contracts.backend import Family
from tulle.contracts.encapsulation import Encapsulation, Paths
from tulle.contracts.engine import Engine, Local, MakeEncapsulation
from tulle.net import gso
from tulle.net.checksum import checksum, fold, pseudo_header_sum, word_sum
from tulle.net.packet import ICMP, TCP
from tulle.testing.answering import LATER, OTHER, SILENT, Answering
from tulle.testing.engine_rig import LOOPBACK, WAIT_S, EngineRig, PeerSocket
from tulle.testing.packets import packet

LOCAL = Local(prefixes=("10.42.1.0/24", "fd42:1::/64"), icmp_sources=("10.42.1.0", "fd42:1::"), mtu=1400)
FAMILIES: tuple[Family, ...] = (4, 6)
NOT_OURS = {4: bytes((192, 0, 2, 77)), 6: bytes.fromhex("20010db8") + bytes(12)}
"""Addresses of documentation (RFC 5737, RFC 3849)."""
OURS, THEIRS, STRANGE = "10.42.1.2", "10.42.2.2", "10.42.3.2"


class EngineContract:
    """`make_engine(make_encapsulation) -> Engine`; `make_encapsulation(paths)` must be the wire of plain udp: the
    packet is the datagram."""

    def make_engine(self, make_encapsulation: MakeEncapsulation) -> Engine:
        raise NotImplementedError

    def make_encapsulation(self, paths: Paths) -> Encapsulation:
        raise NotImplementedError

    @contextmanager
    def answering(self, family: Family = 4) -> Iterator[tuple[EngineRig, PeerSocket, Answering]]:
        """An engine whose sockets tell, with an encapsulation that answers, and somebody who asks."""
        made: list[Answering] = []

        def make(paths: Paths) -> Encapsulation:
            made.append(Answering(paths))
            return made[0]

        with (
            PeerSocket(family) as peer,
            EngineRig(self.make_engine, make, LOCAL, (family,), tells=True) as rig,
        ):
            yield rig, peer, made[0]

    @contextmanager
    def rig(self, local: Local = LOCAL, family: Family = 4) -> Iterator[tuple[EngineRig, PeerSocket]]:
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
        self, outer: Family, here: str, there: str
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

    # --- paths and time ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("how", [b"", OTHER, LATER])
    def test_what_the_encapsulation_answers_is_sent(self, family: Family, how: bytes) -> None:
        """From `open`, from `control` and from `tick`."""
        with self.answering(family) as (rig, peer, _):
            for number in range(3):
                question = how + bytes([number]) * 100
                peer.send(rig, question)
                assert peer.receive() == question

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
    def test_an_answer_leaves_from_the_address_that_was_asked(self, host: str) -> None:
        with self.answering() as (rig, peer, answering):
            peer.send(rig, b"question", host)
            assert peer.receive_all() == (b"question", host, 0)
            ((remote, _),) = answering.heard
            assert remote == (socket.inet_aton(LOOPBACK[4]), peer.address[1], socket.inet_aton(host), 0)

    def test_over_ipv6_our_own_address_is_known_too(self) -> None:
        with self.answering(6) as (rig, peer, answering):
            peer.send(rig, b"question")
            assert peer.receive_all() == (b"question", "::1", 0)
            ((remote, _),) = answering.heard
            here = socket.inet_pton(socket.AF_INET6, "::1")
            assert remote == (here, peer.address[1], here, 0)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_the_ds_byte_is_known_and_sent(self, family: Family) -> None:
        with self.answering(family) as (rig, peer, answering):
            for ds, back in ((0xB9, 0x02), (0x00, 0x88), (0x03, 0x00)):
                answering.toward = lambda remote, back=back: remote._replace(ds=back)  # type: ignore[misc]
                peer.mark(ds)
                peer.send(rig, b"question")
                assert peer.receive_all()[2] == back
                assert answering.heard[-1][0].ds == ds

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_train_is_cut_and_answered_whatever_the_kernel_tells_with_it(self, family: Family) -> None:
        train = [bytes([number]) * 200 for number in range(6)] + [b"end"]
        with self.answering(family) as (rig, peer, answering):
            peer.mark(0x01)
            peer.send_train(rig, train)
            assert [peer.receive_all()[::2] for _ in train] == [(one, 0x01) for one in train]
            assert [one for _, one in answering.heard] == train

    @pytest.mark.parametrize("family", FAMILIES)
    def test_what_the_kernel_refuses_is_told_once_and_counted(self, family: Family) -> None:
        train = [bytes([number]) * 200 for number in range(6)]
        with self.answering(family) as (rig, peer, answering):
            answering.toward = lambda remote: remote._replace(local=NOT_OURS[family])
            peer.send_train(rig, train)
            self.wait_for(lambda: bool(answering.failed))
            ((remote, error),) = answering.failed
            assert (remote.local, remote.port) == (NOT_OURS[family], peer.address[1])
            assert error in {errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL}
            assert rig.counters()[f"drop-{errno.errorcode[error].lower()}"] == len(train)
            answering.toward = lambda remote: remote._replace(local=b"")
            peer.send(rig, b"and on")
            assert peer.receive() == b"and on"

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_path_to_where_nobody_was_heard_from_can_be_sent_on(self, family: Family) -> None:
        with self.answering(family) as (rig, peer, answering), PeerSocket(family) as other:
            answering.toward = lambda remote: remote._replace(port=other.address[1], local=b"")
            peer.send(rig, b"for another")
            assert other.receive() == b"for another"

    def test_a_path_of_the_other_family_without_a_socket_is_dropped_and_counted(self) -> None:
        with self.answering() as (rig, peer, answering):
            answering.toward = lambda remote: remote._replace(address=NOT_OURS[6], local=b"")
            peer.send(rig, b"lost")
            self.wait_for(lambda: bool(answering.heard))
            odd = b"x" * 7  # of no family: it says nothing, so the kernel chooses
            rig.control.do(lambda: setattr(answering, "toward", lambda one: one._replace(local=odd)))
            peer.send(rig, b"and on")
            assert peer.receive() == b"and on"
            assert rig.counters()["drop-no-path"] == 1

    def test_a_deadline_that_stays_past_does_not_hold_the_packets_up(self) -> None:
        with self.answering() as (rig, peer, answering):
            answering.overdue = True
            for number in range(50):
                peer.send(rig, bytes([number]))
                assert peer.receive() == bytes([number])
            assert len(answering.ticks) > 1

    def test_time_is_that_of_the_boot_clock_and_never_goes_back(self) -> None:
        with self.answering() as (rig, peer, answering):
            before = time.clock_gettime(time.CLOCK_BOOTTIME)
            for _ in range(2):
                peer.send(rig, LATER)
                peer.receive()
            first, second = answering.ticks
            assert before < first < second < time.clock_gettime(time.CLOCK_BOOTTIME)

    def test_what_the_encapsulation_reports_stands_beside_the_engines_counters(self) -> None:
        with self.answering() as (rig, peer, answering):
            rig.set_peer("peer", ("10.42.2.0/24",), [peer.address])
            peer.send(rig, SILENT)
            self.wait_for(lambda: bool(answering.heard))
            found: dict[str, dict[str, object]] = {}
            rig.control.do(lambda: found.update({k: dict(v) for k, v in rig.engine.peer_counters().items()}))
            assert found.keys() == {"peer"}
            assert (found["peer"]["heard"], found["peer"]["packets-in"]) == (1, 0)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.005)
