"""Which command comes next for a peer, whatever has happened before; what it is told."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.backend import Peer, Problem
from tulle.net.prefix import subnet_key
from tulle_extension.calls import (
    MAX_DATA_BYTES,
    REMOVE_TRIES,
    Call,
    Done,
    Step,
    addresses_environment,
    after,
    call_for,
    next_step,
    retry_after_s,
)

V4, V6 = ip_network("10.42.2.0/24"), ip_network("fd42:0:0:2::/64")
A4, A6 = ip_address("192.0.2.2"), ip_address("2001:db8::2")
OLD, NEW = Call({"SUBNET": "old"}), Call({"SUBNET": "new"}, "text")


def peer(**fields: object) -> Peer:
    whole = {
        "key": subnet_key((V4,)),
        "node": "n2",
        "prefixes": (V4,),
        "endpoints": (A4,),
        "backend": "extension",
    }
    return Peer(**{**whole, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prefixes", "endpoints", "expected"),
    [
        ((V4,), (A4,), ("10.42.2.0/24", "", "192.0.2.2", "")),
        ((V4, V6), (A4, A6), ("10.42.2.0/24", "fd42:0:0:2::/64", "192.0.2.2", "2001:db8::2")),
        ((V6,), (A6,), ("fd42:0:0:2::/64", "fd42:0:0:2::/64", "2001:db8::2", "2001:db8::2")),
        ((V4,), (A6,), ("10.42.2.0/24", "", "2001:db8::2", "2001:db8::2")),
        ((V4,), (A4, ip_address("192.0.2.9")), ("10.42.2.0/24", "", "192.0.2.2", "")),
    ],
)
def test_the_variables_are_flannels_and_ours_for_ipv6(
    prefixes: tuple[object, ...], endpoints: tuple[object, ...], expected: tuple[str, ...]
) -> None:
    found = addresses_environment(prefixes, endpoints, ("SUBNET", "IPV6_SUBNET"))  # type: ignore[arg-type]
    assert found == dict(zip(("SUBNET", "IPV6_SUBNET", "PUBLIC_IP", "PUBLIC_IPV6"), expected, strict=True))


def test_a_peers_text_goes_to_the_standard_input_and_nowhere_else() -> None:
    text = "$(reboot); `reboot` '\"\\\n\0"
    found = call_for(peer(data_text=text))
    assert isinstance(found, Call)
    assert found.stdin == text
    assert not any("reboot" in value for value in found.environment.values())


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"backend": ""}, "peer-backend-differs", "names no backend"),
        ({"backend": "vxlan"}, "peer-backend-differs", "says backend vxlan"),
        ({"endpoints": ()}, "peer-no-endpoint", "names no address"),
        ({"data": {"VtepMAC": "x"}}, "peer-data", "is no text"),
        ({"data_text": "é" * (MAX_DATA_BYTES // 2) + "."}, "peer-data", "more than 65536 bytes"),
    ],
)
def test_a_peer_that_no_command_can_be_run_for_is_a_problem(
    fields: dict[str, object], code: str, words: str
) -> None:
    found = call_for(peer(**fields))
    assert isinstance(found, Problem)
    assert (found.code, found.subject) == (code, "n2")
    assert words in found.message


def test_the_longest_text_is_taken() -> None:
    assert isinstance(call_for(peer(data_text="x" * MAX_DATA_BYTES)), Call)


@pytest.mark.parametrize(
    ("wanted", "done", "expected"),
    [
        (None, None, None),
        (NEW, None, Step("add", NEW)),
        (NEW, Done(NEW, added=True), None),
        (NEW, Done(NEW, added=False), Step("add", NEW)),
        (NEW, Done(OLD, added=True), Step("remove", OLD)),
        (NEW, Done(OLD, added=False), Step("remove", OLD)),
        (None, Done(OLD, added=True), Step("remove", OLD)),
        (None, Done(OLD, added=False), Step("remove", OLD)),
    ],
)
def test_the_next_step_leads_from_what_was_done_to_what_is_wanted(
    wanted: Call | None, done: Done | None, expected: Step | None
) -> None:
    assert next_step(wanted, done) == expected


CALLS = st.sampled_from([None, OLD, NEW])
DONES = st.one_of(st.none(), st.builds(Done, st.sampled_from([OLD, NEW]), st.booleans()))


@given(CALLS, DONES)
def test_steps_that_succeed_lead_there_in_two(wanted: Call | None, done: Done | None) -> None:
    steps = 0
    while step := next_step(wanted, done):
        done, steps = after(step, True, wanted, done, 1), steps + 1
        assert steps <= 2
    assert done == (None if wanted is None else Done(wanted, added=True))


@given(CALLS, DONES)
def test_a_remove_command_that_always_fails_keeps_nothing_for_ever(
    wanted: Call | None, done: Done | None
) -> None:
    for failures in range(1, REMOVE_TRIES + 2):
        step = next_step(wanted, done)
        if step is None or step.kind == "add":
            break
        done = after(step, False, wanted, done, failures)
    assert done is None or (wanted is not None and done.call == wanted)


def test_a_failed_add_may_have_done_something_and_is_remembered() -> None:
    assert after(Step("add", NEW), False, NEW, None, 1) == Done(NEW, added=False)


@pytest.mark.parametrize(
    ("wanted", "added", "kept"),
    [(None, True, True), (None, False, False), (NEW, True, False), (NEW, False, False)],
)
def test_a_failed_remove_is_tried_again_only_for_a_peer_that_was_added_and_is_gone(
    wanted: Call | None, added: bool, kept: bool
) -> None:
    done = Done(OLD, added=added)
    assert after(Step("remove", OLD), False, wanted, done, 1) == (done if kept else None)


def test_the_pause_doubles_up_to_five_minutes() -> None:
    assert [retry_after_s(count) for count in (1, 2, 3, 8, 9, 10_000)] == [2, 4, 8, 256, 300, 300]


def test_what_was_done_survives_the_state_file() -> None:
    done = Done(NEW, added=True)
    assert msgspec.json.decode(msgspec.json.encode(done), type=Done) == done
