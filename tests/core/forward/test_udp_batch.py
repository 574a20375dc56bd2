"""Runs of equal size are legal UDP_SEGMENT messages, and what the kernel refuses goes one by one."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.encapsulation import Datagram
from tulle.forward import udp_batch
from tulle.forward.ancillary import to_send
from tulle.forward.udp_batch import MAX_RUN_BYTES, MAX_SEGMENTS, SEND_WAIT_MS, SegmentSender, runs, size_of

BUFFER_BYTES = 1 << 21
SIZES = st.lists(
    st.one_of(st.sampled_from([0, 1, 99, 100, 1400]), st.integers(0, 65507)).flatmap(
        lambda size: st.integers(1, 80).map(lambda count: [size] * count)
    ),
    max_size=8,
).map(lambda groups: [size for group in groups for size in group])
ZEROS = memoryview(bytes(65536))


def datagrams_of(sizes: Sequence[int]) -> list[Datagram]:
    """In one piece or in two."""
    return [
        (ZEROS[:size],) if number % 3 else (ZEROS[: size // 2], ZEROS[: size - size // 2])
        for number, size in enumerate(sizes)
    ]


@given(SIZES)
def test_runs_cover_every_datagram_in_order_and_each_is_legal(sizes: list[int]) -> None:
    found = runs(datagrams_of(sizes))
    assert [number for first, behind, _ in found for number in range(first, behind)] == list(
        range(len(sizes))
    )
    for first, behind, size in found:
        *equal, last = sizes[first:behind]
        assert size == sizes[first]
        assert set(equal) <= {size}
        if behind - first > 1:
            assert 0 < last <= size
            assert behind - first <= MAX_SEGMENTS
            assert sum(sizes[first:behind]) <= MAX_RUN_BYTES


@given(st.integers(1, 1000), st.integers(2, 300))
def test_equal_sizes_leave_in_as_few_runs_as_can_be(size: int, count: int) -> None:
    at_most = min(MAX_SEGMENTS, MAX_RUN_BYTES // size)
    assert len(runs(datagrams_of([size] * count))) == -(-count // at_most)


def test_the_size_of_a_datagram_is_that_of_all_its_pieces() -> None:
    assert size_of((b"abc",)) == 3
    assert size_of((b"abc", b"", memoryview(b"de"))) == 5


class Pair:
    """A sender and a receiver on loopback."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.counters: Counter[str] = Counter()
        self.sender = SegmentSender(self.counters)
        self.out, self.into = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        self.into.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.into.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        self.into.settimeout(5.0)
        self.sender.use([self.out])

    def send(self, payloads: Sequence[bytes]) -> None:
        self.sender.send(self.out, self.into.getsockname(), [(payload,) for payload in payloads])

    def received(self, count: int) -> list[bytes]:
        return [self.into.recv(65535) for _ in range(count)]

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.out.close()
        self.into.close()


MIXED = [os.urandom(size) for size in (900, 900, 900, 300, 1400, 1400, 0, 0, 20, 20, 1)]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("segments", [True, False])
def test_what_is_sent_arrives_unchanged_and_in_order(family: socket.AddressFamily, segments: bool) -> None:
    with Pair(family) as pair:
        pair.sender.segments = segments
        pair.send(MIXED)
        assert pair.received(len(MIXED)) == MIXED
        assert pair.counters == {}


class Refusing(socket.socket):
    """A real socket before which a kernel stands that refuses trains."""

    refusal = 0

    def sendmsg(self, buffers, ancillary=(), flags=0, address=None):  # type: ignore[no-untyped-def, override]
        if ancillary:
            raise OSError(self.refusal, os.strerror(self.refusal))
        return super().sendmsg(buffers, ancillary, flags, address)


@pytest.mark.parametrize(
    ("refusal", "counter", "stays_on"),
    [("EMSGSIZE", "path-mtu-fell", True), ("EIO", "segments-turned-off", False), ("EINVAL", None, True)],
)
def test_a_refused_train_goes_one_by_one(refusal: str, counter: str | None, stays_on: bool) -> None:
    with Pair() as pair, Refusing(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.refusal = getattr(errno, refusal)
        pair.sender.use([out])
        payloads = [os.urandom(500) for _ in range(5)]
        pair.sender.send(out, pair.into.getsockname(), [(payload,) for payload in payloads])
        assert pair.received(5) == payloads
        assert pair.counters == ({counter: 1} if counter else {})
        assert pair.sender.segments is stays_on


def test_a_train_for_nobody_is_dropped_and_counted_once_a_packet() -> None:
    with Pair() as pair, Refusing(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.refusal = errno.ENETUNREACH
        pair.sender.send(out, pair.into.getsockname(), [(b"x",)] * 5)
        assert pair.counters == {"drop-enetunreach": 5}


@pytest.mark.parametrize("segments", [True, False])
def test_what_a_path_wants_goes_with_every_message_of_a_batch(segments: bool) -> None:
    with Pair() as pair:
        pair.sender.segments = segments
        pair.into.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        control = to_send(4, socket.inet_aton("127.0.0.7"), 2)
        refused = pair.sender.send(pair.out, pair.into.getsockname(), [(one,) for one in MIXED], control)
        seen = [pair.into.recvmsg(65535, 64) for _ in MIXED]
        assert (refused, pair.counters) == (0, {})
    assert [data for data, _, _, _ in seen] == MIXED
    assert {(source[0], ancillary[0][2]) for _, ancillary, _, source in seen} == {("127.0.0.7", b"\2")}


@pytest.mark.parametrize(("count", "segments"), [(1, True), (5, True), (5, False)])
def test_a_refusal_is_returned(count: int, segments: bool) -> None:
    with Pair() as pair:
        pair.sender.segments = segments
        control = to_send(4, bytes((192, 0, 2, 77)), 0)  # not ours (RFC 5737)
        error = pair.sender.send(pair.out, pair.into.getsockname(), [(b"x" * 9,)] * count, control)
        assert error in {errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL}
        assert pair.counters == {f"drop-{errno.errorcode[error].lower()}": count}
        assert pair.sender.send(pair.out, pair.into.getsockname(), [(b"x",)]) == 0


def test_a_refusal_before_what_was_taken_is_returned() -> None:
    with Pair() as pair:
        target = pair.into.getsockname()
        assert (
            pair.sender.send(pair.out, target, [(bytes(65508),), (b"a",), (b"a",), (b"b" * 9,)])
            == errno.EMSGSIZE
        )
        assert pair.received(3) == [b"a", b"a", b"b" * 9]


def test_a_datagram_that_is_too_long_is_dropped_and_the_others_arrive() -> None:
    with Pair() as pair:
        pair.send([b"before", bytes(65508), b"behind"])
        assert pair.received(2) == [b"before", b"behind"]
        assert pair.counters == {"drop-emsgsize": 1}


@pytest.mark.parametrize("waits", [True, False])
def test_a_full_send_buffer_is_waited_for_if_that_is_wanted_and_then_counted(waits: bool) -> None:
    waited: list[int] = []

    class Polled:
        def poll(self, wait_ms: int) -> None:
            waited.append(wait_ms)

    with Pair() as pair:
        # A Unix datagram pair fills up at a certain length, which UDP on loopback does not.
        full, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with full, other:
            full.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while full.send(b"x"):
                    pass

            class ToPair(socket.socket):
                def sendmsg(self, buffers, ancillary=(), flags=0, address=None):  # type: ignore[no-untyped-def, override]
                    return super().sendmsg(buffers, (), flags)

            with ToPair(fileno=os.dup(full.fileno())) as out:
                pair.sender.use([out])
                pair.sender._poll = Polled()  # type: ignore[assignment]
                sent = pair.sender.send(out, ("192.0.2.1", 1), [(b"y",)], waits=waits)
                assert sent == 0  # busy is no refusal
            assert set(waited) == {SEND_WAIT_MS if waits else 0}
            assert pair.counters == {"drop-send-buffer-full": 1}


SMALL_LOOPBACK = """
import os, socket, subprocess
from collections import Counter
from tulle.forward.udp_batch import SegmentSender

subprocess.run(["ip", "link", "set", "lo", "up", "mtu", "1300"], check=True)
into, out = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
into.bind(("127.0.0.1", 0))
into.settimeout(5)
out.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: IP_PMTUDISC_DONT, outer packets may be cut
counters = Counter()
sender = SegmentSender(counters)
sender.use([out])
payloads = [os.urandom(1400) for _ in range(6)]
sender.send(out, into.getsockname(), [(one,) for one in payloads])
assert [into.recv(65535) for _ in payloads] == payloads
assert not any(name.startswith("drop") for name in counters), counters
out.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_PMTUDISC_DO
sender.send(out, into.getsockname(), [(one,) for one in payloads])
assert counters["drop-emsgsize"] == 6, counters
"""


def test_on_a_path_with_a_small_mtu_a_train_is_cut_or_counted() -> None:
    """In a network namespace of its own: there the loopback's MTU can be set."""
    unshare = ["unshare", "--net", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs a network namespace")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", SMALL_LOOPBACK], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_self_test_passes_here_or_turns_trains_off_in_words() -> None:
    sender = SegmentSender(Counter())
    notes = sender.self_test()
    assert sender.segments is (not notes)


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        (
            "the kernel refuses it (x)",
            ["UDP_SEGMENT is off: the kernel refuses it (x); packets are sent one by one"],
        )
    ],
)
def test_a_failed_self_test_turns_trains_off(
    monkeypatch: pytest.MonkeyPatch, reason: str, found: list[str]
) -> None:
    monkeypatch.setattr(udp_batch, "_try_segments", lambda: reason)
    sender = SegmentSender(Counter())
    assert sender.self_test() == found
    assert not sender.segments


def test_the_self_test_sees_a_kernel_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    class RefusingTrains(Refusing):
        refusal = errno.EIO

    monkeypatch.setattr(udp_batch.socket, "socket", RefusingTrains)
    assert udp_batch._try_segments() == "the kernel refuses it (Input/output error)"
