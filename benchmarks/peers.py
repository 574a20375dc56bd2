"""How long until a forwarder knows 20,000 peers?

A real forwarder process with the python engine, greeted as tulled greets it, gets the whole state over its control
socket in parts, and then the difference that one changed peer makes. Beside it: decoding the same bytes and no more.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from benchmarks.figures import Effort, Result, Turns
from benchmarks.processes import resident_mb
from tulle.contracts.backend import DataPeer, Endpoint
from tulle.contracts.engine import Local
from tulle.forward import messages
from tulle.net.prefix import prefix_from_int
from tulle.worker.supervise import Session, connect

QUESTION = "How long until a forwarder knows 20,000 peers?"

PEERS, QUICK_PEERS = 20_000, 1_000
PORT = 8285
ANSWER_S = 60.0
DECODED, WHOLE, ONE = "decoding alone", "the whole state", "one peer changed"
MEMORY = "forwarder's memory"


def measure(effort: Effort) -> Result:
    count = effort.of(PEERS, QUICK_PEERS)
    turns = Turns()
    applied = 0
    for _ in range(effort.turns):
        with forwarder() as (process, path):
            applied = asyncio.run(_one_turn(path, count, turns))
            turns.add(MEMORY, f"with {count} peers", resident_mb(process.pid))
    figures = [
        turns.figure("state", f"s, {count} peers", "lower", baseline=DECODED),
        turns.figure(MEMORY, "MB resident", "lower"),
    ]
    return Result(figures, {"peers applied": applied})


async def _one_turn(path: Path, count: int, turns: Turns) -> int:
    """Returns how many peers the forwarder then tells the counters of."""
    peers = [peer(number) for number in range(count)]
    local = Local(prefixes=("10.255.255.0/24",), icmp_sources=("10.255.255.0",))
    whole = messages.State(base=None, generation=1, local=local, options={}, peers=peers)
    encoded = [msgspec.msgpack.encode(part) for part in messages.parts(whole)]
    start = time.perf_counter()
    for one in encoded:
        messages.decode(one)
    turns.add("state", DECODED, time.perf_counter() - start)

    session = await connect(path, messages.decode)
    try:
        turns.add("state", WHOLE, await apply(session, whole))
        changed = msgspec.structs.replace(peers[0], endpoints=(Endpoint("192.0.2.1", PORT),))
        one_peer = messages.State(base=1, generation=2, peers=[changed])
        turns.add("state", ONE, await apply(session, one_peer))
        session.send(messages.AskStats())
        found: messages.Stats = await session.expect(messages.Stats, ANSWER_S)
        return len(found.peers)
    finally:
        session.close()


async def apply(session: Session, state: messages.State) -> float:
    """Seconds until the forwarder says that it has it."""
    start = time.perf_counter()
    for part in messages.parts(state):
        session.send(part)
    applied: messages.Applied = await session.expect(messages.Applied, ANSWER_S)
    taken = time.perf_counter() - start
    if applied.errors or applied.generation != state.generation:
        raise RuntimeError(f"the forwarder did not take generation {state.generation}: {applied}")
    return taken


def peer(number: int) -> DataPeer:
    prefix = prefix_from_int(4, (10 << 24) + (number << 8), 24)
    address = str(IPv4Address((100 << 24) + (64 << 16) + 1 + number))
    return DataPeer(str(prefix).replace("/", "-"), (str(prefix),), (Endpoint(address, PORT),))


@contextmanager
def forwarder() -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process as tulled starts it, without descriptors, and where it listens."""
    with tempfile.TemporaryDirectory(prefix="tulle-bench-") as directory:
        path = Path(directory, "forwarder.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen()
            number = listener.fileno()
            command = [
                *(sys.executable, "-m", "tulle.forward.main", "tulle-forwarder", "--listen-fd", str(number)),
                *("--engine", "tulle.forward.python_engine:PythonEngine"),
                *("--encapsulation", "tulle_udp.encapsulation:PlainUdp", "--fingerprint", "benchmark"),
            ]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(number,),
                env={**os.environ, "LANG": "C.UTF-8"},
            )
        try:
            yield process, path
        finally:
            process.kill()
            process.wait()
