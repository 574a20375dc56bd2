"""Messages between tulled and the forwarder survive the wire, and large states come in parts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.backend import DataPeer, Endpoint
from tulle.contracts.engine import Local
from tulle.forward import messages
from tulle.forward.messages import PART_PEERS, State, parts
from tulle.forward.state import StateCopy
from tulle.worker.messages import encode


def peer(number: int) -> DataPeer:
    return DataPeer(f"10.{number >> 8}.{number & 255}.0-24", ("10.0.0.0/24",), (Endpoint("192.0.2.1", 1),))


@pytest.mark.parametrize(
    "message",
    [
        State(
            base=None, generation=1, local=Local(), options={"k": b"secret"}, peers=[peer(1)], removed=["x"]
        ),
        State(base=4, generation=5, part=2, more=True),
        messages.Applied(3, ["bad"]),
        messages.Resend(2),
        messages.AskStats(peers=False),
        messages.Stats(generation=1, counters={"packets-in": 1}, peers={"a": {"last-seen": 0.5}}),
        messages.Carry(counters={"packets-in": 1}, peers={"a": {"packets-in": 1}}),
        messages.DeviceLost(1),
    ],
)
def test_every_message_comes_back_as_it_was(message: messages.Message) -> None:
    assert messages.decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused_as_such(data: bytes) -> None:
    try:
        messages.decode(data)
    except msgspec.DecodeError:
        return
    assert msgspec.msgpack.decode(data)["type"]


@pytest.mark.parametrize("count", [0, 1, PART_PEERS, PART_PEERS + 1, 3 * PART_PEERS])
def test_parts_are_small_and_together_the_whole(count: int) -> None:
    whole = State(
        base=None,
        generation=7,
        local=Local(mtu=1400),
        options={"a": 1},
        peers=[peer(number) for number in range(count)],
        removed=["gone"],
    )
    found = parts(whole)
    assert [one.part for one in found] == list(range(len(found)))
    assert [one.more for one in found] == [True] * (len(found) - 1) + [False]
    assert all(len(one.peers) <= PART_PEERS for one in found)
    assert [one for part in found for one in part.peers] == whole.peers
    assert [(one.local, one.options, one.removed) for one in found[1:]] == [(None, None, [])] * (
        len(found) - 1
    )
    copy = StateCopy()
    changes = [copy.take(one) for one in found]
    assert [one is not None and one.complete for one in changes] == [False] * (len(found) - 1) + [True]
    assert (copy.generation, copy.local, len(copy.peers)) == (7, Local(mtu=1400), count)
