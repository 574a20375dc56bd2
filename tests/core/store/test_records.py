"""Whose keys are these? Each rule of ownership by itself."""

from __future__ import annotations

import pytest

from tulle.contracts.store import NO_LEASE, Compare, KeyValue, LeaseId, Put, Revision
from tulle.store.records import Records

OURS = LeaseId(77)
THEIRS = LeaseId(88)


def _kv(key: str, value: bytes, modified: int, lease: int = OURS, created: int = 5) -> KeyValue:
    return KeyValue(key, value, Revision(created), Revision(modified), 1, LeaseId(lease))


def _written() -> Records:
    """A lease and its member record, written at revision 5."""
    records = Records({"s/k": b"v", "m/n": b"me"}, lease=OURS)
    records.puts()
    records.written(Revision(5))
    return records


def test_new_keys_must_be_absent_and_known_ones_unchanged() -> None:
    records = Records({"s/k": b"v", "m/n": b"me"}, known=[_kv("m/n", b"old", 4)], lease=OURS)
    assert records.compares() == [Compare("s/k", "modified", 0), Compare("m/n", "modified", 4)]
    assert records.puts() == [Put("s/k", b"v", OURS), Put("m/n", b"me", OURS)]


def test_what_is_written_needs_no_writing_until_the_wish_changes() -> None:
    records = _written()
    assert not records.needs_write()
    assert records.known["s/k"] == _kv("s/k", b"v", 5)
    records.want({"s/k": b"w", "m/n": b"me"})
    assert records.needs_write()


def test_a_set_keeps_its_keys() -> None:
    with pytest.raises(ValueError, match="keeps its keys"):
        _written().want({"s/other": b"v", "m/n": b"me"})


def test_a_lease_that_is_gone_takes_its_keys_and_leaves_lasting_ones() -> None:
    records = Records(
        {"s/k": b"v", "m/n": b"me"},
        known=[_kv("s/k", b"v", 5, NO_LEASE), _kv("m/n", b"me", 5)],
        lease=OURS,
        lasting=["s/k"],
    )
    records.lease_gone()
    assert set(records.known) == {"s/k"}
    assert records.lease == NO_LEASE
    assert records.needs_lease()


def test_a_whole_write_of_ours_is_recognised_when_its_answer_was_lost() -> None:
    records = Records({"s/k": b"v", "m/n": b"me"}, lease=OURS)
    records.puts()
    assert records.recognise({"s/k": _kv("s/k", b"v", 9), "m/n": _kv("m/n", b"me", 9)})
    assert records.known["s/k"].modified == 9
    assert not records.needs_write()


@pytest.mark.parametrize(
    "present",
    [
        {"s/k": _kv("s/k", b"v", 9), "m/n": None},
        {"s/k": _kv("s/k", b"v", 9), "m/n": _kv("m/n", b"me", 8)},
        {"s/k": _kv("s/k", b"v", 9, THEIRS), "m/n": _kv("m/n", b"me", 9)},
        {"s/k": _kv("s/k", b"other", 9), "m/n": _kv("m/n", b"me", 9)},
    ],
    ids=["half", "two revisions", "another's lease", "a value we never wrote"],
)
def test_what_we_did_not_write_as_a_whole_is_not_recognised(present: dict[str, KeyValue | None]) -> None:
    records = Records({"s/k": b"v", "m/n": b"me"}, lease=OURS)
    records.puts()
    assert not records.recognise(present)


def test_equal_bytes_under_another_lease_are_another_nodes() -> None:
    # Two nodes behind one NAT write the same udp lease: {"PublicIP":"192.0.2.1","PublicIPv6":null}.
    records = _written()
    theirs = _kv("s/k", b"v", 9, THEIRS)
    assert records.judge({"s/k": theirs, "m/n": None}) == theirs


def test_equal_bytes_of_a_reservation_are_another_nodes_without_our_member_record() -> None:
    records = Records({"s/k": b"v", "m/n": b"me"}, lasting=["s/k", "m/n"], known=[_kv("s/k", b"f", 4, 0)])
    records.puts()
    neighbours = _kv("s/k", b"v", 9, NO_LEASE, created=9)
    assert not records.recognise({"s/k": neighbours, "m/n": None})
    assert records.judge({"s/k": neighbours, "m/n": None}) == neighbours


def test_a_key_that_somebody_deleted_is_to_be_put_again() -> None:
    records = _written()
    assert records.judge({"s/k": None, "m/n": _kv("m/n", b"me", 5)}) is None
    assert records.needs_write()
    assert records.compares() == [Compare("s/k", "modified", 0), Compare("m/n", "modified", 5)]


def test_a_key_of_which_a_person_made_a_reservation_stays_ours_and_without_ttl() -> None:
    records = _written()
    assert records.judge({"s/k": _kv("s/k", b"v", 9, NO_LEASE), "m/n": _kv("m/n", b"me", 5)}) is None
    assert records.lasting == {"s/k"}
    assert not records.needs_write()
    records.want({"s/k": b"w", "m/n": b"me"})
    assert Put("s/k", b"w", NO_LEASE) in records.puts()


def test_a_key_that_was_deleted_and_reserved_for_another_is_lost() -> None:
    records = _written()
    theirs = _kv("s/k", b"v", 9, NO_LEASE, created=9)
    assert records.judge({"s/k": theirs, "m/n": _kv("m/n", b"me", 5)}) == theirs


def test_an_earlier_try_of_ours_under_our_lease_is_ours_and_is_written_over() -> None:
    records = _written()
    records.want({"s/k": b"second", "m/n": b"me"})
    records.puts()
    records.want({"s/k": b"third", "m/n": b"me"})
    assert records.judge({"s/k": _kv("s/k", b"second", 9), "m/n": _kv("m/n", b"me", 9)}) is None
    assert records.compares()[0] == Compare("s/k", "modified", 9)
    assert records.needs_write()
