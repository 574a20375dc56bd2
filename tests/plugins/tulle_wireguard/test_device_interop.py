"""The wire is WireGuard's: our device and a real wireguard-go talk over UDP, and each believes the other.

wireguard-go has a TUN, and the kernel behind it takes and answers packets; see beside_wireguard_go.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Scenario = Callable[..., dict[str, Any]]

pytestmark = [pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(400)]

ALL = {"there4": True, "back4": True, "there6": True, "back6": True}
AGREED = {"handshake": True, "go-handshake": True, "bytes-agree": True, "go-endpoint-is-ours": True}


@pytest.mark.parametrize("scenario", ["initiator", "initiator-6", "initiator-psk"])
def test_a_handshake_that_we_start_carries_packets_both_ways(beside: Scenario, scenario: str) -> None:
    found = beside(scenario)
    assert found | ALL | AGREED == found
    assert found["kinds"] == {"out-1": 1, "in-2": 1, "out-4": 40, "in-4": 40}
    assert found["counters"] == {}


@pytest.mark.parametrize("scenario", ["responder", "responder-6", "responder-psk"])
def test_a_handshake_that_they_start_carries_packets_both_ways(beside: Scenario, scenario: str) -> None:
    found = beside(scenario)
    assert found["first"]
    assert found | ALL | AGREED == found
    assert found["kinds"] == {"in-1": 1, "out-2": 1, "out-4": 40, "in-4": 41}
    assert found["counters"] == {}


def test_with_another_pre_shared_key_there_is_no_session(beside: Scenario) -> None:
    found = beside("wrong-psk")
    assert found["arrived"] == 0
    assert not found["handshake"]
    assert found["counters"] == {"drop-response-unproven": 1}
    assert found["kinds"] == {"out-1": 1, "in-2": 1}


def test_sessions_follow_each_other_and_lose_nothing(beside: Scenario) -> None:
    found = beside("rekey")
    assert found["sessions"] == 4
    assert found["all"] == [ALL] * 4
    assert found | AGREED == found
    assert found["kinds"]["out-1"] == found["kinds"]["in-2"] == 4
    assert found["counters"] == {}


def test_either_side_may_move_while_they_talk(beside: Scenario) -> None:
    found = beside("roaming")
    assert found["before"] == found["after"] == found["last"] == ALL
    assert found["moved"]
    assert found | AGREED == found
    assert found["kinds"]["out-1"] == 1


def test_under_load_we_ask_them_for_a_cookie_and_they_bring_it(beside: Scenario) -> None:
    found = beside("cookie-from-us")
    assert found["flood"] <= 50
    assert found["unfinished"]
    assert found["kinds"]["out-3"] == 1
    assert found["kinds"]["in-2"] == 2
    assert found["arrived"]


def test_under_load_they_ask_us_for_a_cookie_and_we_bring_it(beside: Scenario) -> None:
    found = beside("cookie-from-them")
    assert found["cookie-taken"]
    assert found["still-loaded"]
    assert found["kinds"] == {"out-1": 2, "in-3": 1, "in-2": 1, "out-4": 1}
    assert found["arrived"]


@pytest.mark.soak
def test_they_renew_a_session_after_two_minutes(beside: Scenario) -> None:
    found = beside("rekey-by-them", 200)
    assert found["said"] == found["received"] > 100  # one a second or so, fewer on a busy machine
    assert found["kinds"]["in-1"] == found["kinds"]["out-2"] == 2
    assert found | ALL | AGREED == found
