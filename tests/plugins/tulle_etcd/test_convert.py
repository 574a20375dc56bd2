"""Contract types to etcd's messages and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.store import (
    Compare,
    Delete,
    Event,
    Get,
    KeyValue,
    LeaseId,
    Put,
    Revision,
    absent,
    unchanged,
)
from tulle_etcd import convert
from tulle_etcd import messages_pb2 as pb

KEYS = st.binary(max_size=6)


def in_range(key: bytes, first: bytes, end: bytes) -> bool:
    """As etcd documents it: an end of one zero byte means no end."""
    return first <= key and (end == b"\0" or key < end)


@given(KEYS, KEYS)
def test_the_range_of_a_prefix_holds_exactly_the_keys_that_start_with_it(prefix: bytes, key: bytes) -> None:
    key = key or b"\0"  # etcd has no empty key
    first, end = convert.prefix_range(convert.key_text(prefix))
    assert in_range(key, first, end) == key.startswith(prefix)
    assert in_range(prefix + key, first, end)


@given(st.binary())
def test_a_key_that_is_not_text_comes_back_as_it_was(key: bytes) -> None:
    assert convert.key_bytes(convert.key_text(key)) == key


def test_a_key_value_keeps_every_field() -> None:
    message = pb.KeyValue(key=b"/a", value=b"\xff", create_revision=3, mod_revision=5, version=2, lease=-7)
    assert convert.key_value(message) == KeyValue("/a", b"\xff", Revision(3), Revision(5), 2, LeaseId(-7))


def test_a_deletion_has_an_empty_value_and_what_stood_before() -> None:
    before = pb.KeyValue(key=b"/a", value=b"old", create_revision=3, mod_revision=3, version=1)
    message = pb.Event(type=pb.Event.DELETE, kv=pb.KeyValue(key=b"/a", mod_revision=9), prev_kv=before)
    assert convert.event(message) == Event(
        "delete",
        KeyValue("/a", b"", Revision(0), Revision(9), 0),
        KeyValue("/a", b"old", Revision(3), Revision(3), 1),
    )


def test_an_event_of_a_new_key_has_no_previous_value() -> None:
    message = pb.Event(kv=pb.KeyValue(key=b"/a", value=b"v", create_revision=9, mod_revision=9, version=1))
    assert convert.event(message) == Event("put", KeyValue("/a", b"v", Revision(9), Revision(9), 1), None)


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        (absent("k"), pb.Compare(key=b"k", target=pb.Compare.VERSION, version=0)),
        (unchanged("k", Revision(4)), pb.Compare(key=b"k", target=pb.Compare.MOD, mod_revision=4)),
        (
            Compare("k", "created", 4, "<"),
            pb.Compare(key=b"k", target=pb.Compare.CREATE, create_revision=4, result=pb.Compare.LESS),
        ),
        (
            Compare("k", "value", b"v", "!="),
            pb.Compare(key=b"k", target=pb.Compare.VALUE, value=b"v", result=pb.Compare.NOT_EQUAL),
        ),
        (
            Compare("k", "lease", 4, ">"),
            pb.Compare(key=b"k", target=pb.Compare.LEASE, lease=4, result=pb.Compare.GREATER),
        ),
    ],
)
def test_each_condition_has_its_target_and_operand(compare: Compare, message: Any) -> None:
    (sent,) = convert.transaction([compare], [], []).compare
    assert sent == message
    assert sent.WhichOneof("operand"), "etcd compares with 0 and with an absent operand differently"


@pytest.mark.parametrize("compare", [Compare("k", "value", 1), Compare("k", "version", b"1")])
def test_a_condition_of_the_wrong_type_is_the_callers_mistake(compare: Compare) -> None:
    with pytest.raises(TypeError, match="'k'"):
        convert.transaction([compare], [], [])


def test_a_branch_that_writes_a_key_twice_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="'k' twice"):
        convert.transaction([], [], [Put("k", b""), Get("k"), Delete("k")])


def test_both_branches_may_write_the_same_key() -> None:
    request = convert.transaction([], [Put("k", b"1", LeaseId(9)), Get("k")], [Delete("k")])
    assert [op.WhichOneof("request") for op in request.success] == ["put", "range"]
    assert request.success[0].put.lease == 9
    assert [op.WhichOneof("request") for op in request.failure] == ["delete_range"]


@pytest.mark.parametrize("succeeded", [True, False])
def test_a_result_tells_what_the_executed_branch_read(succeeded: bool) -> None:
    kv = pb.KeyValue(key=b"b", value=b"v", create_revision=1, mod_revision=2, version=2)
    answers = [
        pb.ResponseOp(put=pb.PutResponse()),
        pb.ResponseOp(range=pb.RangeResponse(kvs=[kv])),
        pb.ResponseOp(range=pb.RangeResponse()),
    ]
    response = pb.TxnResponse(header=pb.ResponseHeader(revision=8), succeeded=succeeded, responses=answers)
    executed, other = [Put("a", b""), Get("b"), Get("c")], [Get("d")]
    branches = (executed, other) if succeeded else (other, executed)
    result = convert.transaction_result(response, *branches)
    assert (result.succeeded, result.revision) == (succeeded, 8)
    assert result.found == {"b": convert.key_value(kv), "c": None}
