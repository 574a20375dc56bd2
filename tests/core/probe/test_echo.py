"""The raw socket, on loopback."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tulle.net import echo
from tulle.net.prefix import Family
from tulle.probe.echo import EchoSocket, Heard, wait

ADDRESSES: dict[Family, str] = {4: "127.0.0.1", 6: "::1"}


def first_heard(opened: EchoSocket, within_s: float = 2.0) -> Heard | None:
    deadline = time.monotonic() + within_s
    while wait([opened], deadline):
        if (heard := opened.heard()) is not None:
            return heard
    return None


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("dont_fragment", [True, False])
def test_an_echo_comes_back_with_its_mark_and_size(
    inside: Callable[..., Any], family: Family, dont_fragment: bool
) -> None:
    def run() -> None:
        with EchoSocket(family, source=ADDRESSES[family], dont_fragment=dont_fragment) as opened:
            assert opened.send(ADDRESSES[family], 3, 1 << 60, 101) is None
            heard = first_heard(opened)
        assert heard is not None
        assert (heard.sequence, heard.mark, heard.size, heard.refusal) == (3, 1 << 60, 101, None)
        assert heard.sender == ADDRESSES[family]

    inside(run)


def test_a_reply_to_somebody_else_is_not_ours(inside: Callable[..., Any]) -> None:
    def run() -> None:
        with EchoSocket(4) as ours, EchoSocket(4) as theirs:
            theirs.identifier = ours.identifier ^ 1
            theirs.send("127.0.0.1", 0, 1, 8)
            assert first_heard(theirs) is not None
            assert first_heard(ours, 0.05) is None

    inside(run)


def test_a_packet_that_must_not_be_cut_and_is_too_long_does_not_leave(inside: Callable[..., Any]) -> None:
    def run() -> None:
        assert os.system("ip link set lo mtu 1500") == 0
        with EchoSocket(4, dont_fragment=True) as whole, EchoSocket(4) as cut:
            error = whole.send("127.0.0.1", 0, 1, 1500)
            assert error is not None
            assert error.errno == errno.EMSGSIZE
            assert cut.send("127.0.0.1", 0, 1, 1500) is None

    inside(run)


def test_a_source_that_this_node_has_not_is_refused_with_its_name(inside: Callable[..., Any]) -> None:
    def run() -> str:
        with pytest.raises(OSError, match=r"192\.0\.2\.7") as caught:
            EchoSocket(4, source="192.0.2.7")
        return str(caught.value)

    assert "cannot send from there" in inside(run)


def test_the_kernel_answers_a_timestamp_request(inside: Callable[..., Any]) -> None:
    def run() -> int:
        with EchoSocket(4) as opened:
            now = int(time.time() * 1000) % echo.DAY_MS
            opened.send_message("127.0.0.1", echo.timestamp_request(opened.identifier, 0, now))
            deadline = time.monotonic() + 2
            while wait([opened], deadline):
                got = opened.receive()
                times = echo.read_times(got[1], opened.identifier) if got else None
                if times is not None:
                    return echo.offset_ms(times, int(time.time() * 1000) % echo.DAY_MS)
        raise AssertionError("no answer")

    assert abs(inside(run)) < 1000


def test_nothing_to_receive_is_none(inside: Callable[..., Any]) -> None:
    def run() -> None:
        with EchoSocket(4) as opened:
            assert opened.receive() is None
            assert opened.heard() is None
            assert wait([opened], time.monotonic() - 1) == []

    inside(run)
