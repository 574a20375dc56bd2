"""Frames: the stream may be cut anywhere, descriptors find the frames that name them, and nonsense is refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.worker.frames import (
    LENGTH,
    MAX_FDS,
    MAX_FRAME_BYTES,
    Connection,
    FrameError,
    FrameReader,
    frame,
)


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    one, other = (Connection(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
    yield one, other
    one.close()
    other.close()


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0, 2500), max_size=12))
def test_any_cut_of_the_stream_gives_the_same_messages(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, messages))
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = FrameReader()
    found = []
    for start, end in pairwise(places):
        found += reader.feed(stream[start:end])
    assert found == messages


@given(st.integers(MAX_FRAME_BYTES + 1, 2**32 - 1), st.binary(max_size=20))
def test_a_length_that_no_message_has_is_refused_before_its_bytes_come(length: int, rest: bytes) -> None:
    with pytest.raises(FrameError, match=str(length)):
        FrameReader().feed(LENGTH.pack(length) + rest)


def test_the_longest_frame_is_taken() -> None:
    message = bytes(MAX_FRAME_BYTES)
    assert FrameReader().feed(frame(message)) == [message]


def test_descriptors_arrive_with_the_frames_that_name_them(ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    files = [os.memfd_create(f"file-{number}") for number in range(3)]
    for number, file in enumerate(files):
        os.write(file, b"%d" % number)
    here.send(b"plain")
    here.send(b"two", (files[0], files[1]))
    here.send(b"between")
    here.send(b"one", (files[2],))
    for file in files:
        os.close(file)
    named = {b"plain": 0, b"two": 2, b"between": 0, b"one": 1}
    found: list[tuple[bytes, list[bytes]]] = []
    while len(found) < len(named):
        for message in there.receive() or ():
            taken = there.take(named[message])
            found.append((message, [os.pread(one, 10, 0) for one in taken]))
            assert not any(os.get_inheritable(one) for one in taken)
            for one in taken:
                os.close(one)
    assert found == [(b"plain", []), (b"two", [b"0", b"1"]), (b"between", []), (b"one", [b"2"])]


def test_more_descriptors_named_than_sent_is_refused(ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    file = os.memfd_create("one")
    here.send(b"names two", (file,))
    os.close(file)
    assert there.receive() == [b"names two"]
    with pytest.raises(FrameError, match="2 descriptors were named, 1 came"):
        there.take(2)


def test_as_many_descriptors_as_one_message_may_carry_pass(ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    file = os.memfd_create("shared")
    here.send(b"all", (file,) * MAX_FDS)
    os.close(file)
    assert there.receive() == [b"all"]
    for one in there.take(MAX_FDS):
        os.close(one)


def test_a_message_larger_than_the_socket_waits_in_unsent(ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    message = os.urandom(3 << 20)
    here.send(message)
    here.send(b"behind")
    assert here.unsent
    found: list[bytes] = []
    while len(found) < 2:
        here.flush()
        found += there.receive() or ()
    assert found == [message, b"behind"]
    assert not here.unsent


def test_what_was_said_before_a_hang_up_is_heard_and_then_the_end(
    ends: tuple[Connection, Connection],
) -> None:
    here, there = ends
    here.send(b"last words")
    here.sock.shutdown(socket.SHUT_WR)
    assert there.receive() == [b"last words"]
    assert there.receive() is None
    there.send(b"an answer")  # only one direction is closed
    assert here.receive() == [b"an answer"]


def test_half_a_frame_before_the_end_is_no_message(ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    here.sock.send(frame(b"whole")[:-1])
    assert there.receive() == []
    here.sock.close()
    assert there.receive() is None


def test_nothing_to_read_is_no_message_and_no_end(ends: tuple[Connection, Connection]) -> None:
    assert ends[1].receive() == []


def test_sending_to_nobody_raises_and_closing_lets_go_of_every_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    here, there = (Connection(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
    file = os.memfd_create("kept")
    there.send(b"unread", (file,))
    here.receive()
    there.close()
    with pytest.raises(OSError, match="pipe"):
        here.send(b"x", (file,))
    here.close()
    os.close(file)
    assert set(os.listdir("/proc/self/fd")) == before
