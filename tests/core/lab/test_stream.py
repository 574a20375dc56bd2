"""One TCP stream, hashed at both ends."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.lab import stream
from tulle.lab.stream import BLOCK_BYTES, blocks


@given(st.integers(0, 3 * BLOCK_BYTES + 5))
def test_the_blocks_of_a_stream_add_up_to_its_length(total: int) -> None:
    assert sum(map(len, blocks(total, 1))) == total


def test_no_two_blocks_of_a_stream_are_equal_and_a_seed_gives_one_stream() -> None:
    first = list(blocks(4 * BLOCK_BYTES, 1))
    assert len(set(first)) == 4
    assert first == list(blocks(4 * BLOCK_BYTES, 1))
    assert first != list(blocks(4 * BLOCK_BYTES, 2))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_stream_over_loopback_is_unchanged_and_both_ends_say_so(address: str) -> None:
    sent, received = transfer(address, total=1_000_003, check=True)
    expected = hashlib.sha256(b"".join(blocks(1_000_003, 3))).hexdigest()
    assert sent["unchanged"] is True
    assert sent["sha256"] == received["sha256"] == expected
    assert received["bytes"] == 1_000_003
    assert sent["gbit_s"] > 0


def test_a_receiver_that_saw_something_else_is_not_called_unchanged() -> None:
    sent, received = transfer("127.0.0.1", total=5000, check=True, tamper=True)
    assert sent["unchanged"] is False
    assert sent["received"] == {"bytes": 5000, "sha256": received["sha256"]}


def test_without_the_check_nothing_is_hashed() -> None:
    sent, _ = transfer("127.0.0.1", total=5000, check=False)
    assert sent["unchanged"] is True
    assert sent["sha256"] == hashlib.sha256().hexdigest()


def transfer(
    address: str, *, total: int, check: bool, tamper: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reports of both ends; with `tamper` the receiver does not hash, as if it had seen other bytes."""
    receiver = stream.receive(address, 0, check=check and not tamper, timeout_s=10)
    port = int(next(receiver)["listening"])
    sent: list[dict[str, Any]] = []

    def work() -> None:
        sent.append(stream.send(address, port, total=total, seed=3, check=check, timeout_s=10))

    thread = threading.Thread(target=work)
    thread.start()
    received = next(receiver)
    thread.join()
    receiver.close()
    return sent[0], received
