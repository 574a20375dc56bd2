"""Sessions: counters, ages, padding, and the three places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard.constants import REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES
from tulle_wireguard.keypair import KeyPair, KeyPairs
from tulle_wireguard.noise import Keys

ONE, OTHER = b"1" * 32, b"2" * 32
MTU = 1420


def ends() -> tuple[KeyPair, KeyPair]:
    return (
        KeyPair(1, 2, Keys(ONE, OTHER), initiator=True, created=0.0),
        KeyPair(2, 1, Keys(OTHER, ONE), initiator=False, created=0.0),
    )


def fresh(*, initiator: bool) -> KeyPair:
    return KeyPair(1, 2, Keys(ONE, OTHER), initiator=initiator, created=0.0)


@given(st.lists(st.binary(max_size=MTU), max_size=70))
def test_what_one_end_seals_the_other_opens_padded_to_sixteen(packets: list[bytes]) -> None:
    a, b = ends()
    for number, (packet, pieces) in enumerate(zip(packets, a.seal(packets, MTU), strict=True)):
        datagram = b"".join(pieces)
        assert datagram[:8] == b"\x04\0\0\0\x02\0\0\0"
        assert int.from_bytes(datagram[8:16], "little") == number
        plain = b.open(datagram)
        assert plain is not None
        assert plain[: len(packet)] == packet
        assert not any(plain[len(packet) :])
        assert len(plain) == min(-(-len(packet) // 16) * 16, MTU)
    assert a.counter == len(packets)


def test_padding_never_goes_beyond_the_mtu_and_cuts_nothing_off() -> None:
    a, b = ends()
    sizes = []
    for size in (1, 16, 17, 1408, 1409, 1419, 1420, 1421):
        plain = b.open(b"".join(a.seal([bytes(size)], MTU)[0]))
        assert plain is not None
        sizes.append(len(plain))
    assert sizes == [16, 16, 32, 1408, 1420, 1420, 1420, 1421]


def test_every_kind_of_buffer_is_sealed_and_opened() -> None:
    a, b = ends()
    for buffer in (b"inner", bytearray(b"inner"), memoryview(b"inner")):
        datagram = b"".join(a.seal([buffer], MTU)[0])
        assert b.open(memoryview(datagram)) == b"inner".ljust(16, b"\0")


@given(st.integers(0, 79), st.integers(0, 7))
def test_a_changed_datagram_does_not_open(place: int, bit: int) -> None:
    """The counter and what is sealed; type and index are not in the tag, they only find the session."""
    a, b = ends()
    datagram = bytearray(b"".join(a.seal([bytes(50)], MTU)[0]))
    datagram[8 + place % (len(datagram) - 8)] ^= 1 << bit
    assert b.open(datagram) is None


def test_the_counter_goes_to_its_end_and_no_further() -> None:
    """A nonce is never used twice: the counter does not wrap, not inside a batch either."""
    a, b = ends()
    a.counter = REJECT_AFTER_MESSAGES - 2
    sealed = a.seal([b"one", b"two", b"three"], MTU)
    assert len(sealed) == 2
    assert [b.open(b"".join(one)) is not None for one in sealed] == [True, True]
    assert a.counter == REJECT_AFTER_MESSAGES
    assert not a.may_send(0.0)
    assert a.seal([b"more"], MTU) == []


def test_in_a_retired_pair_nothing_is_sealed_and_what_comes_is_opened() -> None:
    a, b = ends()
    a.retire()
    assert not a.may_send(0.0)
    assert a.seal([b"more"], MTU) == []
    (sealed,) = b.seal([b"to the end"], MTU)
    assert a.may_receive(0.0)
    assert (a.open(b"".join(sealed)) or b"").startswith(b"to the end")


@pytest.mark.parametrize("initiator", [True, False])
def test_a_session_ends_for_both_after_180_seconds(initiator: bool) -> None:
    pair = fresh(initiator=initiator)
    assert pair.may_send(179.9)
    assert pair.may_receive(179.9)
    assert not pair.may_send(180.0)
    assert not pair.may_receive(180.0)


def test_only_the_initiator_renews_by_time() -> None:
    assert not fresh(initiator=True).is_old_to_send(119.9)
    assert fresh(initiator=True).is_old_to_send(120.0)
    assert not fresh(initiator=True).is_old_to_receive(164.9)
    assert fresh(initiator=True).is_old_to_receive(165.0)
    assert not fresh(initiator=False).is_old_to_send(179.0)
    assert not fresh(initiator=False).is_old_to_receive(179.0)


@pytest.mark.parametrize("initiator", [True, False])
def test_either_side_renews_by_count(initiator: bool) -> None:
    pair = fresh(initiator=initiator)
    pair.counter = REKEY_AFTER_MESSAGES - 1
    assert not pair.is_old_to_send(0.0)
    pair.seal([b"x"], MTU)
    assert pair.is_old_to_send(0.0)


def test_a_wiped_pair_holds_no_keys_and_opens_nothing() -> None:
    a, b = ends()
    datagram = b"".join(a.seal([b"x"], MTU)[0])
    b.wipe()
    assert b.send_key == b.receive_key == bytes(32)
    assert b.open(datagram) is None
    with pytest.raises(ValueError, match="wiped"):
        b.seal([b"x"], MTU)


def test_the_initiators_pair_is_current_at_once() -> None:
    pairs, one, two, three = KeyPairs(), *(fresh(initiator=True) for _ in range(3))
    assert pairs.add(one) == []
    assert (pairs.previous, pairs.current, pairs.next) == (None, one, None)
    assert pairs.add(two) == []
    assert (pairs.previous, pairs.current, pairs.next) == (one, two, None)
    assert pairs.add(three) == [one]
    assert one.send_key == bytes(32)
    assert (pairs.previous, pairs.current, pairs.next) == (two, three, None)


def test_the_responders_pair_waits_for_the_first_packet_in_it() -> None:
    pairs, one, two, three = KeyPairs(), *(fresh(initiator=False) for _ in range(3))
    pairs.add(one)
    assert pairs.current is None
    assert pairs.received_in(one) == []
    assert pairs.current is one
    assert pairs.received_in(one) is None
    pairs.add(two)
    assert (pairs.previous, pairs.current, pairs.next) == (None, one, two)
    assert pairs.add(three) == [two]
    assert pairs.received_in(three) == []
    assert (pairs.previous, pairs.current, pairs.next) == (one, three, None)


def test_when_both_sides_start_at_once_neither_pair_is_lost() -> None:
    pairs, asked, answered = KeyPairs(), fresh(initiator=False), fresh(initiator=True)
    pairs.add(asked)
    assert pairs.add(answered) == []
    assert (pairs.previous, pairs.current, pairs.next) == (asked, answered, None)


@given(st.lists(st.sampled_from(["initiated", "answered", "received", "clear"]), max_size=40))
def test_no_pair_is_in_two_places_and_each_falls_out_once(steps: list[str]) -> None:
    pairs, inside, gone = KeyPairs(), 0, 0
    for step in steps:
        if step == "clear":
            gone += len(pairs.clear())
        elif step == "received":
            for pair in pairs.all():
                gone += len(pairs.received_in(pair) or [])
        else:
            gone += len(pairs.add(fresh(initiator=step == "initiated")))
            inside += 1
        there = pairs.all()
        assert len(set(map(id, there))) == len(there) == inside - gone
        assert all(any(pair.send_key) for pair in there)
