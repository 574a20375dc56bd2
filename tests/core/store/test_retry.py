"""How long to wait after a failure, and how often to say so."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from tulle.contracts.store import Denied, Unavailable
from tulle.store.retry import DENIED_WAIT_S, LOSSES_TOLD, Backoff, OutageLog, RareLog
from tulle.testing.clock import VirtualClock


def test_waits_double_with_jitter_up_to_two_seconds_and_begin_anew_after_success() -> None:
    backoff = Backoff(random.Random(1))
    waits = [backoff.wait_s() for _ in range(10)]
    for wait, full in zip(waits, [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2, 2, 2], strict=True):
        assert full / 2 <= wait <= full
    assert len({round(wait / 2, 9) for wait in waits[5:]}) > 1
    backoff.reset()
    assert backoff.wait_s() <= 0.1


def test_a_refusal_is_tried_again_slowly() -> None:
    assert Backoff(random.Random(1)).wait_s(Denied("no")) == DENIED_WAIT_S


def test_an_outage_of_an_hour_is_one_line_at_the_loss_one_a_minute_and_one_at_the_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        log = OutageLog(logging.getLogger("tulle.test"), "etcd at http://10.0.0.1:2379", clock)
        for _ in range(3600):
            for source in ("leases", "members"):
                log.failed(source, Unavailable("no route to host"))
            await clock.advance(1)
        log.worked("leases")
        log.worked("leases")
        log.worked("members")

    asyncio.run(scenario())
    words = [message.split(":")[0] for message in caplog.messages]
    assert words == ["store-lost", *["store-away"] * 59, "store-back"]
    assert "no route to host" in caplog.messages[0]
    assert "http://10.0.0.1:2379 answers again after 3600.0 s" in caplog.messages[-1]


def test_a_source_that_tries_no_more_does_not_keep_the_outage_open(caplog: pytest.LogCaptureFixture) -> None:
    log = OutageLog(logging.getLogger("tulle.test"), "etcd", VirtualClock())
    log.failed("a", Unavailable("x"))
    log.failed("b", Unavailable("x"))
    log.forget("a")
    log.worked("b")
    assert [message.split(":")[0] for message in caplog.messages] == ["store-lost", "store-back"]


def test_a_frequent_message_comes_once_a_minute_and_counts_what_it_held_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        rare, logger = RareLog(clock), logging.getLogger("tulle.test")
        for _ in range(61):
            rare.warn(logger, "bad-record")
            await clock.advance(1)

    asyncio.run(scenario())
    assert caplog.messages == ["bad-record", "bad-record (and 59 others since the last such line)"]


def test_a_store_that_comes_and_goes_fills_no_log_and_a_last_loss_is_told_in_any_case(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        log = OutageLog(logging.getLogger("tulle.test"), "etcd", clock)
        for _ in range(600):
            log.failed("leases", Unavailable("cut"))
            await clock.advance(0.5)
            log.worked("leases")
            await clock.advance(0.5)
        assert len(caplog.messages) <= 2 * LOSSES_TOLD * 10
        caplog.clear()
        for _ in range(120):
            log.failed("leases", Unavailable("gone"))
            await clock.advance(1)
        log.worked("leases")

    asyncio.run(scenario())
    words = [message.split(":")[0] for message in caplog.messages]
    assert words in (["store-away", "store-away", "store-back"], ["store-lost", "store-away", "store-back"])
    assert "answers again after 120.0 s; before that it was lost " in caplog.messages[-1]
