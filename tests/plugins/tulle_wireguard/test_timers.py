"""The table of events and timers, row by row, and what holds whatever happens."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tulle_wireguard.timers import TABLE, Action, Event, Timer, Timers

NOW = 1000.0
EARLIEST, LATEST = 0.0, 1 - 2**-32


def timers(chance: float = EARLIEST) -> Timers:
    return Timers(lambda: chance)


def running(one: Timers) -> dict[Timer, float]:
    return {timer: one.due(timer) - NOW for timer in Timer if one.due(timer) != math.inf}


def test_every_event_has_its_row() -> None:
    assert set(TABLE) == set(Event)


def test_from_idle_each_event_starts_what_the_table_says() -> None:
    started = {
        Event.SENT_DATA: {Timer.NEW_HANDSHAKE: 15.0},
        Event.RECEIVED_DATA: {Timer.KEEPALIVE: 10.0},
        Event.SENT: {},
        Event.RECEIVED: {},
        Event.SENT_INITIATION: {Timer.RETRANSMIT: 5.0},
        Event.TOO_SOON: {Timer.RETRANSMIT: 5.0},
        Event.COMPLETED: {},
        Event.DERIVED: {Timer.WIPE: 540.0},
    }
    for event, expected in started.items():
        one = timers()
        one.happened(event, NOW)
        assert running(one) == expected, event


def test_jitter_is_added_where_others_could_be_in_step() -> None:
    one = timers(LATEST)
    one.happened(Event.SENT_DATA, NOW)
    one.happened(Event.SENT_INITIATION, NOW)
    one.happened(Event.RECEIVED_DATA, NOW)
    assert 15.333 < one.due(Timer.NEW_HANDSHAKE) - NOW < 15.334
    assert 5.333 < one.due(Timer.RETRANSMIT) - NOW < 5.334
    assert one.due(Timer.KEEPALIVE) == NOW + 10


def test_silence_counts_from_the_first_send_that_was_not_answered() -> None:
    one = timers()
    one.happened(Event.SENT_DATA, NOW)
    one.happened(Event.SENT_DATA, NOW + 9)
    assert one.due(Timer.NEW_HANDSHAKE) == NOW + 15
    one.happened(Event.RECEIVED, NOW + 10)
    assert one.due(Timer.NEW_HANDSHAKE) == math.inf
    one.happened(Event.SENT_DATA, NOW + 11)
    assert list(one.expire(NOW + 25.9)) == []
    assert list(one.expire(NOW + 26)) == [Action.START_HANDSHAKE]


def test_a_handshake_that_cannot_succeed_is_tried_anew_at_once_and_for_another_ninety_seconds() -> None:
    one = timers()
    one.try_now(NOW)
    assert running(one) == {}  # none is being tried
    one.happened(Event.SENT_INITIATION, NOW)
    one.try_now(NOW + 4)
    assert list(one.expire(NOW + 4)) == [Action.RETRY_HANDSHAKE]
    one.happened(Event.SENT_INITIATION, NOW + 4)
    assert list(one.expire(NOW + 93)) == [Action.RETRY_HANDSHAKE]
    one.happened(Event.SENT_INITIATION, NOW + 93)
    assert list(one.expire(NOW + 99)) == [Action.GIVE_UP]


def test_what_was_received_is_answered_within_ten_seconds_once() -> None:
    one = timers()
    one.happened(Event.RECEIVED_DATA, NOW)
    assert list(one.expire(NOW + 10)) == [Action.KEEPALIVE]
    assert running(one) == {}


def test_an_answer_in_time_needs_no_keepalive() -> None:
    one = timers()
    one.happened(Event.RECEIVED_DATA, NOW)
    one.happened(Event.RECEIVED_DATA, NOW + 1)
    one.happened(Event.SENT, NOW + 2)
    assert running(one) == {}
    one.happened(Event.RECEIVED_DATA, NOW + 3)
    assert list(one.expire(NOW + 13)) == [Action.KEEPALIVE]
    assert running(one) == {}


def test_data_that_came_while_a_keepalive_was_due_gets_another() -> None:
    one = timers()
    one.happened(Event.RECEIVED_DATA, NOW)
    one.happened(Event.RECEIVED_DATA, NOW + 5)
    actions = []
    for action in one.expire(NOW + 10):
        actions.append(action)
        one.happened(Event.SENT, NOW + 10)  # as a device does: the keepalive goes out
    assert actions == [Action.KEEPALIVE]
    assert one.due(Timer.KEEPALIVE) == NOW + 20


def test_a_keepalive_that_is_received_asks_for_none() -> None:
    one = timers()
    one.happened(Event.RECEIVED, NOW)
    assert running(one) == {}


def test_an_initiation_is_tried_again_for_ninety_seconds() -> None:
    one = timers()
    one.happened(Event.SENT_INITIATION, NOW)
    tries, now = 0, NOW
    while True:
        now = one.due(Timer.RETRANSMIT)
        actions = list(one.expire(now))
        if actions == [Action.GIVE_UP]:
            break
        assert actions == [Action.RETRY_HANDSHAKE]
        one.happened(Event.SENT_INITIATION, now)
        tries += 1
    assert tries == 17
    assert now == NOW + 90
    assert one.due(Timer.RETRANSMIT) == math.inf
    assert one.due(Timer.WIPE) == now + 540


def test_whoever_wants_to_send_makes_the_ninety_seconds_begin_anew() -> None:
    one = timers()
    one.happened(Event.SENT_INITIATION, NOW)
    one.wanted(NOW + 60)
    assert list(one.expire(NOW + 91)) == [Action.RETRY_HANDSHAKE]
    one.happened(Event.SENT_INITIATION, NOW + 145)
    assert list(one.expire(NOW + 151)) == [Action.GIVE_UP]


def test_a_handshake_that_is_completed_ends_the_tries() -> None:
    one = timers()
    one.happened(Event.SENT_INITIATION, NOW)
    one.happened(Event.COMPLETED, NOW + 1)
    assert running(one) == {}
    one.happened(Event.SENT_INITIATION, NOW + 200)
    assert list(one.expire(NOW + 205)) == [Action.RETRY_HANDSHAKE]


def test_keys_are_wiped_after_nine_minutes_without_new_ones() -> None:
    one = timers()
    one.happened(Event.DERIVED, NOW)
    one.happened(Event.DERIVED, NOW + 100)
    assert list(one.expire(NOW + 639)) == []
    assert list(one.expire(NOW + 640)) == [Action.WIPE]


def test_persistent_keepalives_come_at_once_and_then_after_each_silence() -> None:
    one = timers()
    one.set_persistent(25, NOW)
    assert list(one.expire(NOW)) == [Action.KEEPALIVE]
    assert one.deadline() == NOW + 25
    one.happened(Event.SENT, NOW + 20)
    assert list(one.expire(NOW + 25)) == []
    one.happened(Event.RECEIVED, NOW + 30)
    assert list(one.expire(NOW + 55)) == [Action.KEEPALIVE]
    one.set_persistent(0, NOW + 56)
    assert running(one) == {}


def test_the_same_persistent_interval_again_changes_nothing() -> None:
    one = timers()
    one.set_persistent(25, NOW)
    list(one.expire(NOW))
    one.set_persistent(25, NOW + 3)
    assert one.deadline() == NOW + 25


def test_a_peer_that_is_gone_has_no_timers() -> None:
    one = timers()
    for event in Event:
        one.happened(event, NOW)
    one.stop_all()
    assert one.deadline() == math.inf


steps = st.lists(
    st.one_of(
        st.sampled_from(Event),
        st.floats(0, 200),
        st.sampled_from(["wanted", "persistent", "none"]),
    ),
    max_size=60,
)


@given(steps, st.floats(0, LATEST))
@settings(max_examples=200)
def test_whatever_happens_a_due_timer_is_never_in_the_past_after_it_was_served(
    script: list[Event | float | str], chance: float
) -> None:
    one, now = timers(chance), NOW
    longest = {Timer.RETRANSMIT: 5.334, Timer.KEEPALIVE: 10, Timer.NEW_HANDSHAKE: 15.334, Timer.WIPE: 540}
    for step in script:
        if isinstance(step, Event):
            one.happened(step, now)
        elif isinstance(step, float):
            now += step
            list(one.expire(now))
            assert one.deadline() > now
        elif step == "wanted":
            one.wanted(now)
        else:
            one.set_persistent(25 if step == "persistent" else 0, now)
        for timer, seconds in longest.items():
            assert one.due(timer) == math.inf or one.due(timer) <= now + seconds
