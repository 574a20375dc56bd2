"""The forwarder's control socket: frames, messages, and state for a real engine."""

from __future__ import annotations

import os

import msgspec

from fuzz.bites import Bites
from tulle.contracts.backend import DataPeer, Endpoint
from tulle.contracts.engine import Local
from tulle.forward import messages
from tulle.forward.main import Forwarder
from tulle.forward.python_engine import PythonEngine
from tulle.worker import messages as worker
from tulle.worker.frames import MAX_FRAME_BYTES, FrameError, FrameReader, frame
from tulle_udp.encapsulation import PlainUdp

_PEER = DataPeer("10.2.0.0-24", ("10.2.0.0/24", "fd00:2::/64"), (Endpoint("192.0.2.2", 8285),), {"key": "x"})
_OTHER = DataPeer("10.3.0.0-24", ("10.3.0.0/24",), (Endpoint("2001:db8::3", 8285),))
_LOCAL = Local(("10.1.0.0/24", "10.1.0.0/32"), ("10.1.0.0", "fd00:1::"), 1400)
_SAID = [
    worker.Hello(protocols=[1, 2], version="0.1.0"),
    messages.State(base=None, generation=1, local=_LOCAL, options={}, peers=[_PEER, _OTHER]),
    messages.State(base=1, generation=2, peers=[_PEER], removed=["10.3.0.0-24"]),
    messages.State(base=None, generation=3, part=0, more=True, peers=[_PEER]),
    messages.State(base=None, generation=3, part=1, peers=[_OTHER]),
    messages.State(base=2, generation=4, local=Local(("no prefix",), ("no address",))),
    messages.State(base=None, generation=5, peers=[DataPeer("x", ("10.0.0.1/8",), (Endpoint("", 99999),))]),
    messages.AskStats(),
    worker.Export(),
    worker.Descriptors(["tun:tulle0:0"]),
    worker.StateBlob(b"\0"),
]
SEEDS = [
    b"\x07" + b"".join(frame(worker.encode(one)) for one in _SAID),
    *(b"\xff" + frame(worker.encode(one)) for one in _SAID),
    b"\xff" + frame(b"\x82\xa4type\xaastate-blob\xa4da\xff\xff\xc4\0"),  # text that is not UTF-8
    b"\xff" + frame(b"\x83\xa4type\xa5state\xa4base\xc0\xa7options" + b"\x81\xa1x" * 2000 + b"\xc0"),
    b"\x01" + frame(worker.encode(_SAID[1])) + b"\xff\xff\xff\xff",
]


def target(data: bytes) -> None:
    """The first byte says how the stream is cut into pieces as they arrive."""
    bites = Bites(data)
    step = bites.number() or 1
    stream = bites.rest()
    found, broken = _read(stream, len(stream) or 1)
    in_pieces = _read(stream, step)
    assert in_pieces[0][: len(found)] == found  # what came before a broken frame may be lost with it, no more
    assert in_pieces[1] == broken
    engine = PythonEngine(lambda paths: PlainUdp(paths, os.urandom))
    forwarder = Forwarder(engine, "fuzz", [])
    for one in found:
        _take(forwarder, one)
    assert len(engine.peer_counters()) <= len(forwarder._state.peers)


def _read(stream: bytes, step: int) -> tuple[list[bytes], bool]:
    """The frames, and whether the stream broke."""
    reader, found = FrameReader(), []
    for at in range(0, len(stream), step):
        try:
            found += reader.feed(stream[at : at + step])
        except FrameError:
            return found, True
    assert all(len(one) <= MAX_FRAME_BYTES for one in found)
    return found, False


def _take(forwarder: Forwarder, data: bytes) -> None:
    """As `ControlServer` does: what a message may raise costs the connection, and nothing else is raised."""
    try:
        message = messages.decode(data)
    except msgspec.DecodeError:
        return
    assert messages.decode(worker.encode(message)) == message
    answer = forwarder.message(message)
    if answer is not None:
        assert isinstance(answer, messages.Applied | messages.Resend | messages.Stats)
        messages.decode(worker.encode(answer))
