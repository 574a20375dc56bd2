"""What worker and daemon say: unknown fields are ignored, and the best common protocol is spoken."""

from __future__ import annotations

import msgspec
import pytest

from tulle.worker import messages

decode = msgspec.msgpack.Decoder(messages.Common).decode


@pytest.mark.parametrize(
    "message",
    [
        messages.Hello(protocols=[1], version="1", fingerprint="f", pid=7, generation=3, descriptors=["a"]),
        messages.Refused("no"),
        messages.Descriptors(["tun:tulle0:0"]),
        messages.Holding(["tun:tulle0:0"]),
        messages.Export(),
        messages.ExportState(),
        messages.StateBlob(b"\0"),
        messages.Stop(),
    ],
)
def test_every_message_comes_back_as_it_was(message: messages.Common) -> None:
    assert decode(messages.encode(message)) == message


def test_fields_of_a_later_release_are_ignored() -> None:
    later = {"type": "hello", "protocols": [1, 9], "version": "9", "mood": "fine"}
    assert decode(msgspec.msgpack.encode(later)) == messages.Hello(protocols=[1, 9], version="9")


@pytest.mark.parametrize(
    ("theirs", "chosen"), [([1], 1), ([1, 2, 3], 2), ([3, 2], 2), ([3], None), ([], None)]
)
def test_the_best_common_protocol_is_chosen(theirs: list[int], chosen: int | None) -> None:
    assert messages.choose_protocol(theirs) == chosen
