"""The worker's end: who is heard, who is master, and that nothing said on one connection hurts the others."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.worker import messages
from tulle.worker.frames import Connection
from tulle.worker.serve import ControlServer

WAIT_S = 5.0


class Ask(msgspec.Struct, tag="ask"):
    number: int
    answer_bytes: int = 0


class Answer(msgspec.Struct, tag="answer"):
    number: int
    padding: bytes = b""


decode = msgspec.msgpack.Decoder(messages.Common | Ask | Answer).decode


class Handler:
    """Notes what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.held: list[tuple[str, int]] = []

    def hello(self) -> messages.Hello:
        return messages.Hello(protocols=list(messages.PROTOCOLS), version="1", pid=os.getpid())

    def descriptors(self, names: Sequence[str], descriptors: Sequence[int]) -> None:
        self.close()
        self.held = list(zip(names, descriptors, strict=True))

    def export(self) -> tuple[Sequence[str], Sequence[int]]:
        return [name for name, _ in self.held], [one for _, one in self.held]

    def export_state(self) -> bytes:
        return b"sessions"

    def import_state(self, data: bytes) -> None:
        if data == b"bad":
            raise ValueError("no state")
        self.told.append(data)

    def message(self, message: Any) -> Any | None:
        self.told.append(message)
        return Answer(message.number, bytes(message.answer_bytes)) if isinstance(message, Ask) else None

    def close(self) -> None:
        for _, one in self.held:
            os.close(one)
        self.held = []


class Caller:
    """A daemon's end, as raw as can be."""

    def __init__(self, path: Path) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(path))
        self.connection = Connection(sock)

    def say(self, *said: Any) -> None:
        for one in said:
            self.connection.send(one if isinstance(one, bytes) else messages.encode(one))

    def hello(self, protocol: int = messages.PROTOCOLS[-1]) -> None:
        self.say(messages.Hello(protocols=[protocol], version="1"))


class Served:
    """A server that is driven as an engine drives it: wait, idle, wait for descriptors, handle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handler = Handler()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.server = ControlServer(self.listener, self.handler, decode)
        self.callers: list[Caller] = []

    def call(self) -> Caller:
        self.callers.append(Caller(self.path))
        self.turn()
        return self.callers[-1]

    def turn(self, wait_s: float = 0.0) -> None:
        self.server.idle(time.monotonic())
        ready, _, _ = select.select(self.server.filenos(), [], [], wait_s)
        for fileno in ready:
            self.server.handle(fileno)

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < end, "nothing happened"
            self.turn(0.01)

    def heard_by(self, caller: Caller, count: int = 1) -> list[Any]:
        """The next messages that this caller gets."""
        found: list[Any] = []

        def enough() -> bool:
            found.extend(decode(one) for one in caller.connection.receive() or ())
            return len(found) >= count

        self.until(enough)
        return found

    def hung_up_on(self, caller: Caller) -> bool:
        def gone() -> bool:
            return caller.connection.receive() is None

        self.until(gone)
        return True

    def close(self) -> None:
        for one in self.callers:
            one.connection.close()
        self.turn()
        self.turn()
        self.server.idle(time.monotonic())
        self.handler.close()
        self.listener.close()


@pytest.fixture
def served(short_dir: Path) -> Iterator[Served]:
    made = Served(short_dir / "s")
    yield made
    made.close()


def test_the_worker_says_hello_first(served: Served) -> None:
    (hello,) = served.heard_by(served.call())
    assert hello == messages.Hello(protocols=list(messages.PROTOCOLS), version="1", pid=os.getpid())


def test_who_has_not_said_hello_is_refused(served: Served) -> None:
    caller = served.call()
    caller.say(Ask(1), messages.Stop())
    _, first, second = served.heard_by(caller, 3)
    assert isinstance(first, messages.Refused)
    assert isinstance(second, messages.Refused)
    assert served.handler.told == []
    assert not served.server.stopping


def test_a_master_is_answered(served: Served) -> None:
    caller = served.call()
    caller.hello()
    caller.say(Ask(7))
    assert served.heard_by(caller, 2)[1] == Answer(7)


def test_a_protocol_that_nobody_speaks_is_refused_in_words(served: Served) -> None:
    caller = served.call()
    caller.say(messages.Hello(protocols=[99], version="99"), Ask(1))
    _, refused, again = served.heard_by(caller, 3)
    assert "99" in refused.reason
    assert isinstance(again, messages.Refused)


def test_the_newest_who_says_hello_is_the_master_and_the_old_one_is_hung_up_on(served: Served) -> None:
    old, new = served.call(), served.call()
    old.hello()
    old.say(Ask(1))
    assert served.heard_by(old, 2)[1] == Answer(1)
    new.hello()
    new.say(Ask(2))
    assert served.heard_by(new, 2)[1] == Answer(2)
    assert served.hung_up_on(old)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        struct.pack("!I", 3) + b"abc",
        struct.pack("!I", 0),
        struct.pack("!I", 5) + messages.encode(Ask(1))[:5],
        struct.pack("!I", len(messages.encode({"type": "ask", "number": "x"})))
        + messages.encode({"type": "ask", "number": "x"}),
    ],
    ids=["too long", "no msgpack", "empty", "cut short", "wrong type"],
)
def test_garbage_closes_only_the_connection_that_it_came_from(served: Served, garbage: bytes) -> None:
    master = served.call()
    master.hello()
    hostile = served.call()
    hostile.connection.sock.send(garbage)
    assert served.hung_up_on(hostile)
    master.say(Ask(3))
    assert served.heard_by(master, 2)[1] == Answer(3)


def test_a_handler_that_finds_a_value_wrong_costs_the_connection_and_not_the_worker(served: Served) -> None:
    master = served.call()
    master.hello()
    master.say(messages.StateBlob(b"bad"))
    assert served.hung_up_on(master)
    again = served.call()
    again.hello()
    again.say(messages.StateBlob(b"good"), messages.ExportState())
    assert served.heard_by(again, 2)[1] == messages.StateBlob(b"sessions")
    assert served.handler.told == [b"good"]


def test_each_idle_does_one_message(served: Served) -> None:
    master = served.call()
    master.hello()
    master.say(*(Ask(number) for number in range(5)))
    served.turn()
    served.turn()
    for done in range(1, 6):
        now = time.monotonic()
        again = served.server.idle(now)
        assert len(served.handler.told) == done
        assert again == (now if done < 5 else None)


def test_what_was_said_before_the_hang_up_is_still_done(served: Served) -> None:
    """A daemon that stops an old worker says so and closes at once."""
    master = served.call()
    master.hello()
    master.say(*(Ask(number) for number in range(3)))
    master.say(messages.Stop())
    master.connection.sock.shutdown(socket.SHUT_WR)
    served.until(lambda: served.server.stopping)
    assert [one.number for one in served.handler.told] == [0, 1, 2]
    served.until(lambda: len(served.server.filenos()) == 1)


def test_a_number_never_changes_its_meaning_between_two_calls_of_filenos(served: Served) -> None:
    """An engine that waits for a number must not miss that another connection has it now."""
    first = served.call()
    (number,) = set(served.server.filenos()) - {served.listener.fileno()}
    first.connection.close()
    served.callers.append(Caller(served.path))
    served.server.handle(number)
    served.server.handle(served.listener.fileno())
    assert number not in served.server.filenos()


def test_descriptors_are_taken_and_given_back(served: Served) -> None:
    master = served.call()
    master.hello()
    file = os.memfd_create("here")
    os.write(file, b"content")
    master.connection.send(messages.encode(messages.Descriptors(["one"])), (file,))
    os.close(file)
    master.say(messages.Export())
    _, holding, named = served.heard_by(master, 3)
    (back,) = master.connection.take(1)
    assert holding == messages.Holding(["one"])
    assert named == messages.Descriptors(["one"])
    assert os.pread(back, 10, 0) == b"content"
    os.close(back)


def test_a_daemon_of_the_first_protocol_hears_nothing_that_it_does_not_know(served: Served) -> None:
    """Its decoder would take the word for garbage and hang up."""
    master = served.call()
    master.hello(protocol=1)
    file = os.memfd_create("here")
    master.connection.send(messages.encode(messages.Descriptors(["one"])), (file,))
    os.close(file)
    master.say(Ask(1))
    assert served.heard_by(master, 2)[1:] == [Answer(1)]
    assert len(served.handler.held) == 1


def test_descriptors_of_who_is_not_master_are_closed_and_never_taken_for_others(served: Served) -> None:
    caller = served.call()
    early, right = os.memfd_create("early"), os.memfd_create("right")
    os.write(early, b"early")
    os.write(right, b"right")
    caller.connection.send(messages.encode(messages.Descriptors(["one"])), (early,))
    caller.hello()
    caller.connection.send(messages.encode(messages.Descriptors(["one"])), (right,))
    os.close(early)
    os.close(right)
    served.until(lambda: bool(served.handler.held))
    assert os.pread(served.handler.held[0][1], 10, 0) == b"right"


def test_fewer_descriptors_than_named_cost_the_connection(served: Served) -> None:
    master = served.call()
    master.hello()
    master.say(messages.Descriptors(["one", "two"]))
    assert served.hung_up_on(master)
    assert served.handler.held == []


def test_an_answer_that_cannot_be_sent_at_once_is_tried_again(served: Served) -> None:
    master = served.call()
    master.hello()
    master.say(Ask(1, answer_bytes=3 << 20))
    served.until(lambda: bool(served.handler.told))
    served.server.tell_master(Answer(2))  # left out: the answer is still unsent
    assert served.heard_by(master, 2)[1:] == [Answer(1, bytes(3 << 20))]
    served.server.tell_master(Answer(3))
    assert served.heard_by(master) == [Answer(3)]


CALL_AS_NOBODY = """
import os, socket, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
sock.settimeout(5)
sock.connect(sys.argv[1])
print(len(sock.recv(100)))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_gets_no_word(served: Served, short_dir: Path) -> None:
    short_dir.chmod(0o755)
    served.path.chmod(0o666)
    child = subprocess.Popen(
        [sys.executable, "-c", CALL_AS_NOBODY, str(served.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        served.until(lambda: child.poll() is not None)
        said, _ = child.communicate()
        assert (child.returncode, said) == (0, "0\n")
    finally:
        child.kill()
        child.wait()
