"""Between the contract's types and etcd's messages. Pure.

Keys are text in tulle and bytes in etcd. Foreign keys under our prefix that are not UTF-8 come and go unharmed
(surrogateescape, PEP 383).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tulle.contracts.store import (
    Compare,
    Delete,
    Event,
    Get,
    KeyValue,
    LeaseId,
    Op,
    Put,
    Revision,
    TxnResult,
)
from tulle_etcd import messages_pb2 as pb

ALL_KEYS = b"\0"  # as key and range_end: from the first key, to the last

_OPS = {
    "==": pb.Compare.EQUAL,
    "!=": pb.Compare.NOT_EQUAL,
    "<": pb.Compare.LESS,
    ">": pb.Compare.GREATER,
}


def key_bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def key_text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    """The half-open range [first, end) of all keys that start with `prefix`."""
    first = key_bytes(prefix)
    stem = first.rstrip(b"\xff")
    if not stem:
        return first or ALL_KEYS, ALL_KEYS
    return first, stem[:-1] + bytes([stem[-1] + 1])


def key_value(kv: pb.KeyValue) -> KeyValue:
    return KeyValue(
        kv.key.decode("utf-8", "surrogateescape"),
        kv.value,
        Revision(kv.create_revision),
        Revision(kv.mod_revision),
        kv.version,
        LeaseId(kv.lease),
    )


def event(message: pb.Event) -> Event:
    previous = key_value(message.prev_kv) if message.HasField("prev_kv") else None
    return Event("delete" if message.type == pb.Event.DELETE else "put", key_value(message.kv), previous)


def transaction(compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]) -> pb.TxnRequest:
    """Raises ValueError where a branch writes a key twice, TypeError where a compare's value has not its
    field's type: both are mistakes of the caller."""
    return pb.TxnRequest(
        compare=[_compare(one) for one in compares],
        success=_branch(then),
        failure=_branch(otherwise),
    )


def _compare(compare: Compare) -> pb.Compare:
    wanted = bytes if compare.field == "value" else int
    if not isinstance(compare.value, wanted):
        raise TypeError(f"compare of {compare.field} of {compare.key!r} needs {wanted.__name__}")
    message = pb.Compare(result=_OPS[compare.op], key=key_bytes(compare.key))
    match compare.value:
        case bytes(value):
            message.target, message.value = pb.Compare.VALUE, value
        case int(number) if compare.field == "version":
            message.target, message.version = pb.Compare.VERSION, number
        case int(number) if compare.field == "created":
            message.target, message.create_revision = pb.Compare.CREATE, number
        case int(number) if compare.field == "modified":
            message.target, message.mod_revision = pb.Compare.MOD, number
        case int(number):
            message.target, message.lease = pb.Compare.LEASE, number
    return message


def _branch(ops: Sequence[Op]) -> list[pb.RequestOp]:
    written = [op.key for op in ops if not isinstance(op, Get)]
    if twice := {key for key in written if written.count(key) > 1}:
        raise ValueError(f"a transaction writes {min(twice)!r} twice in one branch")
    return [_op(op) for op in ops]


def _op(op: Op) -> pb.RequestOp:
    key = key_bytes(op.key)
    match op:
        case Put(value=value, lease=lease):
            return pb.RequestOp(put=pb.PutRequest(key=key, value=value, lease=lease))
        case Delete():
            return pb.RequestOp(delete_range=pb.DeleteRangeRequest(key=key))
        case Get():
            return pb.RequestOp(range=pb.RangeRequest(key=key))


def transaction_result(response: pb.TxnResponse, then: Sequence[Op], otherwise: Sequence[Op]) -> TxnResult:
    """`response` answers the transaction of these two branches."""
    executed = then if response.succeeded else otherwise
    found: Mapping[str, KeyValue | None] = {
        op.key: key_value(answer.range.kvs[0]) if answer.range.kvs else None
        for op, answer in zip(executed, response.responses, strict=False)
        if isinstance(op, Get)
    }
    return TxnResult(response.succeeded, Revision(response.header.revision), found)
