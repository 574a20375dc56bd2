"""A forwarder and the end of the process that started it: tulled's goes on, one with `--with-parent` ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tulle.forward import messages
from tulle.worker import messages as worker
from tulle.worker.processes import kill, running, wait_for_end
from tulle.worker.session import Session, connect

WAIT_S = 20.0
STARTER = """
import os, subprocess, sys
number, *words = [word.replace("{me}", str(os.getpid())) for word in sys.argv[1:]]
subprocess.Popen(words, pass_fds=[int(number)]).wait()
"""
"""A process whose child the forwarder is, and which a test may kill."""
MARK = "tulle-forwarder"


class Family:
    """A starter, its forwarder, and a socket pair in the place of the TUN."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "f.sock"
        self.pod, self.tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pod.settimeout(WAIT_S)
        self.tun.setblocking(False)
        self.starters: list[subprocess.Popen[bytes]] = []

    def start(self, *more: str, program: Sequence[str] = (sys.executable, "-c", STARTER)) -> None:
        """`program`: what starts it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(self.path))
            listener.listen(8)
            number = str(listener.fileno())
            words = [sys.executable, "-m", "tulle.forward.main", MARK, "--listen-fd", number]
            words += ["--engine", "tulle.forward.python_engine:PythonEngine", "--fingerprint", "the test's"]
            words += ["--encapsulation", "tulle_udp.encapsulation:PlainUdp", "--run-dir", str(self.directory)]
            started = subprocess.Popen(
                [*program, *([number] if program else []), *words, *more],
                pass_fds=[listener.fileno()],
                cwd="/",
            )
        self.starters.append(started)

    async def session(self) -> Session:
        """With the descriptors given."""
        session = await connect(self.path, messages.decode, WAIT_S)
        session.send(worker.Descriptors(["tun:tulle0:0"]), (self.tun.fileno(),))
        await session.expect(worker.Holding, WAIT_S)
        self.tun.close()  # the forwarder's is the last one
        return session

    def kill_starter(self) -> None:
        self.starters[0].send_signal(signal.SIGKILL)
        self.starters[0].wait()

    def close(self) -> None:
        for pid in running((MARK, str(self.directory))):
            kill(pid, MARK)
        for starter in self.starters:
            starter.kill()
            starter.wait()
        self.pod.close()
        self.tun.close()


@pytest.fixture
def family() -> Iterator[Family]:
    with tempfile.TemporaryDirectory(prefix="tulle-") as name:
        made = Family(Path(name))
        yield made
        made.close()


def test_it_ends_with_its_parent_and_the_device_goes(family: Family) -> None:
    async def test() -> None:
        family.start("--with-parent", "{me}")
        session = await family.session()
        family.kill_starter()
        assert await asyncio.to_thread(family.pod.recv, 2000) == b""
        assert await asyncio.to_thread(wait_for_end, session.hello.pid, WAIT_S)
        session.close()

    asyncio.run(test())


def test_without_the_word_it_goes_on_when_its_parent_ends(family: Family) -> None:
    async def test() -> None:
        family.start()
        session = await family.session()
        family.kill_starter()
        session.send(messages.AskStats())
        await session.expect(messages.Stats, WAIT_S)
        assert not await asyncio.to_thread(wait_for_end, session.hello.pid, 0.5)
        session.close()

    asyncio.run(test())


def test_it_goes_on_while_its_parent_does(family: Family) -> None:
    async def test() -> None:
        family.start("--with-parent", str(os.getpid()), program=())
        session = await family.session()
        assert not await asyncio.to_thread(wait_for_end, session.hello.pid, 0.5)
        session.send(worker.Stop())
        assert await asyncio.to_thread(family.starters[0].wait, WAIT_S) == 0
        session.close()

    asyncio.run(test())


def test_a_parent_that_ended_before_it_could_look_ends_it_too(family: Family) -> None:
    """Its number is nobody's now."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    family.start("--with-parent", str(ended.pid), program=())
    assert family.starters[0].wait(WAIT_S) == 0


def test_another_process_with_the_parents_number_is_not_taken_for_it(family: Family) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        family.start("--with-parent", str(other.pid), program=())
        assert family.starters[0].wait(WAIT_S) == 0
        assert other.poll() is None
        other.communicate(b"\n")
