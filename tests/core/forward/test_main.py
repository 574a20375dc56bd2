"""A real forwarder process, given descriptors as tulled gives them: a socket pair in the place of the TUN."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.backend import DataPeer, Endpoint
from tulle.contracts.engine import Local
from tulle.forward import messages
from tulle.net.gso import HEADER_BYTES, PLAIN
from tulle.testing.packets import packet
from tulle.worker import messages as worker
from tulle.worker.session import Session, WorkerGone, connect

WAIT_S = 20.0
RESIDENT_LIMIT_KB = 60_000
OURS, THEIRS = "10.42.1.2", "10.42.2.2"
LOCAL = Local(prefixes=("10.42.1.0/24",), icmp_sources=("10.42.1.0",), mtu=1400)


class Rig:
    """The process, the pod's end of its TUN, its UDP socket and the other node's."""

    def __init__(self, directory: Path, encapsulation: str = "tulle_udp.encapsulation:PlainUdp") -> None:
        self.directory, self.encapsulation = directory, encapsulation
        self.pod, self.tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.udp, self.peer = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for one in (self.udp, self.peer):
            one.bind(("127.0.0.1", 0))
        for one in (self.pod, self.peer):
            one.settimeout(WAIT_S)
        self.tun.setblocking(False)
        self.udp.setblocking(False)
        self.names = ["tun:tulle0:0", "udp:4:8285"]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        """One more process; from here on it is the one that is meant."""
        self.path = self.directory / f"f{len(self.processes)}.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(self.path))
            listener.listen(8)
            words = ["--listen-fd", str(listener.fileno()), "--fingerprint", "the test's"]
            words += ["--engine", "tulle.forward.python_engine:PythonEngine"]
            words += ["--encapsulation", self.encapsulation, "--run-dir", str(self.directory)]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tulle.forward.main", "tulle-forwarder", *words],
                pass_fds=[listener.fileno()],
                stderr=subprocess.PIPE,
                cwd="/",
                env={"PYTHONPATH": str(Path(__file__).parent)},
            )
        self.processes.append(self.process)

    def peer_state(self, *keys: str) -> list[DataPeer]:
        endpoint = Endpoint(*self.peer.getsockname())
        return [DataPeer(key, ("10.42.2.0/24",), (endpoint,)) for key in keys]

    async def session(self) -> Session:
        return await connect(self.path, messages.decode, WAIT_S)

    def give_descriptors(self, session: Session) -> None:
        session.send(worker.Descriptors(self.names), (self.tun.fileno(), self.udp.fileno()))

    async def working(self) -> Session:
        """A session with descriptors and one peer."""
        session = await self.session()
        self.give_descriptors(session)
        session.send(messages.State(base=None, generation=1, local=LOCAL, peers=self.peer_state("peer")))
        assert await session.expect(messages.Applied, WAIT_S) == messages.Applied(1, [])
        return session

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        for one in (self.pod, self.tun, self.udp, self.peer):
            one.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="tulle-") as name:
        made = Rig(Path(name))
        yield made
        made.close()


@pytest.fixture
def counting() -> Iterator[Rig]:
    """Its encapsulation has sessions."""
    with tempfile.TemporaryDirectory(prefix="tulle-") as name:
        made = Rig(Path(name), "counting:Counting")
        yield made
        made.close()


def in_loop(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(run())


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


async def stats(session: Session) -> messages.Stats:
    session.send(messages.AskStats())
    found: messages.Stats = await session.expect(messages.Stats, WAIT_S)
    return found


def test_it_carries_packets_answers_for_them_and_stops_when_told(rig: Rig) -> None:
    async def test() -> None:
        session = await rig.working()
        out, back = packet(OURS, THEIRS, b"out"), packet(THEIRS, OURS, b"back")
        rig.pod.send(PLAIN + out)
        assert await asyncio.to_thread(rig.peer.recv, 2000) == out
        rig.peer.sendto(back, rig.udp.getsockname())
        assert (await asyncio.to_thread(rig.pod.recv, 2000))[HEADER_BYTES:] == back
        found = await stats(session)
        assert (found.generation, found.lost_devices) == (1, 0)
        assert (found.counters["packets-out"], found.counters["packets-in"]) == (1, 1)
        assert found.peers["peer"]["packets-in"] == 1
        session.send(worker.Stop())
        assert await asyncio.to_thread(rig.process.wait, WAIT_S) == 0
        session.close()

    in_loop(test)


def test_it_goes_on_from_the_totals_of_the_one_before(rig: Rig) -> None:
    async def test() -> None:
        session = await rig.working()
        traffic = {"packets-out": 5, "bytes-out": 500, "packets-in": 0, "bytes-in": 0}
        before = {"peer": {**traffic, "drop-replay": 4, "last-seen": 3.5}, "gone": traffic}
        session.send(messages.Carry(counters={"packets-out": 7, "drop-source": 2}, peers=before))
        answered = await session.expect(messages.Stats, WAIT_S)
        assert (answered.counters["packets-out"], answered.carried) == (7, True)
        out = packet(OURS, THEIRS, b"out")
        rig.pod.send(PLAIN + out)
        assert await asyncio.to_thread(rig.peer.recv, 2000) == out
        found = await stats(session)
        assert (found.counters["packets-out"], found.counters["drop-source"]) == (8, 2)
        assert list(found.peers) == ["peer"]
        assert found.peers["peer"]["packets-out"] == 6
        assert found.peers["peer"]["bytes-out"] == 500 + len(out)
        assert found.peers["peer"]["drop-replay"] == 4
        assert "last-seen" not in found.peers["peer"]  # it is this one that has not seen it
        session.close()

    in_loop(test)


def test_it_has_no_rights_and_is_small(rig: Rig) -> None:
    async def test() -> None:
        session = await rig.working()
        hello = session.hello
        assert hello.pid == rig.process.pid
        assert hello.fingerprint == "the test's"
        status = status_of(hello.pid)
        assert status["NoNewPrivs"] == "1"
        assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert "0" not in status["Uid"].split()
        assert status["Name"] == "tulle-forwarder"
        assert status["Seccomp"] == "2"
        assert any("no capabilities" in note for note in hello.notes)
        assert int(status["VmRSS"].split()[0]) < RESIDENT_LIMIT_KB
        session.close()

    in_loop(test)


def test_packets_go_on_without_a_daemon_and_the_next_one_adopts_it(rig: Rig) -> None:
    async def test() -> None:
        (await rig.working()).close()
        out = packet(OURS, THEIRS, b"alone")
        rig.pod.send(PLAIN + out)
        assert await asyncio.to_thread(rig.peer.recv, 2000) == out
        session = await rig.session()
        assert (session.hello.generation, session.hello.descriptors) == (1, rig.names)
        session.send(worker.Export())
        named = await session.expect(worker.Descriptors, WAIT_S)
        assert named.names == rig.names
        back = [os.fstat(one) for one in session.connection.descriptors]
        assert [one.st_ino for one in back] == [os.fstat(one.fileno()).st_ino for one in (rig.tun, rig.udp)]
        session.close()

    in_loop(test)


def test_new_descriptors_take_the_place_of_the_old_ones(rig: Rig) -> None:
    async def test() -> None:
        session = await rig.working()
        pod, tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with pod, tun:
            tun.setblocking(False)
            session.send(worker.Descriptors(rig.names), (tun.fileno(), rig.udp.fileno()))
            await stats(session)
            out = packet(OURS, THEIRS, b"by the new one")
            pod.send(PLAIN + out)
            assert await asyncio.to_thread(rig.peer.recv, 2000) == out
        session.close()

    in_loop(test)


def test_a_difference_from_elsewhere_is_answered_by_asking_for_the_whole(rig: Rig) -> None:
    async def test() -> None:
        session = await rig.working()
        session.send(messages.State(base=7, generation=8, removed=["peer"]))
        assert await session.expect(messages.Resend, WAIT_S) == messages.Resend(1)
        session.send(messages.State(base=1, generation=2, removed=["peer"]))
        assert await session.expect(messages.Applied, WAIT_S) == messages.Applied(2, [])
        assert (await stats(session)).peers == {}
        session.close()

    in_loop(test)


def test_a_peer_that_is_refused_stays_an_error_until_it_is_mended(rig: Rig) -> None:
    async def applied(session: Session, **said: Any) -> list[str]:
        session.send(messages.State(**said))
        found: messages.Applied = await session.expect(messages.Applied, WAIT_S)
        return found.errors

    async def test() -> None:
        session = await rig.working()
        bad = DataPeer("bad", ("10.42.3.1/24",), ())
        (error,) = await applied(session, base=1, generation=2, peers=[bad, *rig.peer_state("good")])
        assert error.startswith("bad: ")
        assert await applied(session, base=2, generation=3) == [error]
        assert set((await stats(session)).peers) == {"peer", "good"}
        assert await applied(session, base=3, generation=4, removed=["bad"]) == []
        (local_error,) = await applied(session, base=4, generation=5, local=Local(prefixes=("10.1.2.3/8",)))
        assert "10.1.2.3/8" in local_error
        assert await applied(session, base=5, generation=6, local=LOCAL) == []
        session.close()

    in_loop(test)


def test_a_large_state_comes_in_parts_and_is_answered_once(rig: Rig) -> None:
    async def test() -> None:
        session = await rig.working()
        count = 3 * messages.PART_PEERS + 1
        peers = [
            DataPeer(f"p{number}", (f"10.{number >> 8}.{number & 255}.0/24",), ()) for number in range(count)
        ]
        for part in messages.parts(messages.State(base=None, generation=9, local=LOCAL, peers=peers)):
            session.send(part)
        assert await session.expect(messages.Applied, WAIT_S) == messages.Applied(9, [])
        assert len((await stats(session)).peers) == count
        session.close()

    in_loop(test)


def test_descriptors_are_answered_when_they_are_in_use(rig: Rig) -> None:
    async def test() -> None:
        session = await rig.session()
        rig.give_descriptors(session)
        assert await session.expect(worker.Holding, WAIT_S) == worker.Holding(rig.names)
        session.close()

    in_loop(test)


def test_a_successor_gets_the_sessions_and_what_the_old_one_has_not_read(counting: Rig) -> None:
    """Packets come all the while: none is lost, none is sealed with a number that was used before."""

    async def test() -> None:
        old = await counting.working()
        sent = 0

        def send(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                counting.pod.send(PLAIN + packet(OURS, THEIRS, sent.to_bytes(4, "big")))
                sent += 1

        send(20)
        await stats(old)
        counting.start()
        new = await counting.session()
        new.send(messages.State(base=None, generation=1, local=LOCAL, peers=counting.peer_state("peer")))
        assert await new.expect(messages.Applied, WAIT_S) == messages.Applied(1, [])
        send(20)
        old.send(worker.ExportState())
        send(20)
        blob: worker.StateBlob = await old.expect(worker.StateBlob, WAIT_S)
        send(20)
        new.send(worker.StateBlob(blob.data))
        counting.give_descriptors(new)
        await new.expect(worker.Holding, WAIT_S)
        send(20)
        seen = [await asyncio.to_thread(counting.peer.recv, 2000) for _ in range(sent)]
        assert [int.from_bytes(one[:8], "big") for one in seen] == list(range(sent))
        assert [int.from_bytes(one[8:][-4:], "big") for one in seen] == list(range(sent))
        assert (await stats(new)).counters["packets-out"] >= 20
        old.send(worker.Stop())
        assert await asyncio.to_thread(counting.processes[0].wait, WAIT_S) == 0
        old.close()
        new.close()

    in_loop(test)


def test_one_that_gave_its_sessions_away_is_not_taken_for_a_whole_one(counting: Rig) -> None:
    """The tulled that asked for them may have died since."""

    async def test() -> None:
        session = await counting.working()
        session.send(worker.ExportState())
        assert (await session.expect(worker.StateBlob, WAIT_S)).data != b""
        session.send(worker.ExportState())
        assert (await session.expect(worker.StateBlob, WAIT_S)).data == b""  # never twice
        session.close()
        again = await counting.session()
        assert again.hello.fingerprint == "the test's, released"
        assert again.hello.descriptors == counting.names  # to be fetched
        again.close()

    in_loop(test)


SECRET = b"a key that nobody may see"


def test_secrets_show_nowhere(rig: Rig) -> None:
    """They came over the control socket: they are not in its arguments, its environment, its answers or what it
    writes, also not where something goes wrong."""

    async def test() -> None:
        session = await rig.working()
        endpoint = Endpoint(*rig.peer.getsockname())
        bad = DataPeer("bad", ("10.42.3.1/24",), (endpoint,), {"psk": SECRET})
        good = DataPeer("good", ("10.42.3.0/24",), (endpoint,), {"psk": SECRET})
        key = {"private-key": SECRET}
        session.send(messages.State(base=1, generation=2, options=key, peers=[bad, good]))
        said = repr(await session.expect(messages.Applied, WAIT_S)) + repr(await stats(session))
        again = await rig.session()  # the first connection's end is written about
        wrong = {"type": "state", "base": None, "generation": SECRET, "options": key}
        again.send(wrong)  # and so is this
        with pytest.raises(WorkerGone):
            await again.expect(messages.Applied, WAIT_S)
        session.close()
        again.close()
        proc = Path(f"/proc/{rig.process.pid}")
        seen = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes() + said.encode()
        rig.process.terminate()
        assert rig.process.stderr is not None
        written = await asyncio.to_thread(rig.process.stderr.read)
        assert b"control-lost" in written
        assert SECRET not in seen + written

    in_loop(test)


def test_garbage_on_the_control_socket_does_not_disturb_it(rig: Rig) -> None:
    async def test() -> None:
        session = await rig.working()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hostile:
            hostile.connect(str(rig.path))
            hostile.send(b"GET / HTTP/1.1\r\n\r\n" * 100)
            hostile.settimeout(WAIT_S)
            with contextlib.suppress(ConnectionResetError):  # the end of the stream is as good
                while await asyncio.to_thread(hostile.recv, 1000):
                    pass
        assert (await stats(session)).generation == 1
        session.close()

    in_loop(test)


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_a_signal_ends_it(rig: Rig, number: signal.Signals) -> None:
    async def test() -> None:
        session = await rig.working()
        rig.process.send_signal(signal.SIGINT)  # ^C at tulled's terminal is not meant for it
        assert (await stats(session)).generation == 1
        rig.process.send_signal(number)
        assert await asyncio.to_thread(rig.process.wait, WAIT_S) == 0
        session.close()

    in_loop(test)


def test_a_factory_that_cannot_be_loaded_ends_it_in_words() -> None:
    words = ["--listen-fd", "0", "--fingerprint", "x", "--engine", "tulle.no.such:Thing"]
    words += ["--encapsulation", "tulle_udp.encapsulation:PlainUdp"]
    one, other = socket.socketpair()
    with one, other:
        done = subprocess.run(
            [sys.executable, "-m", "tulle.forward.main", *words],
            stdin=one.fileno(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert "No module named 'tulle.no'" in done.stderr
