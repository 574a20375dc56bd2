"""etcd's words, as our errors."""

from __future__ import annotations

import pytest

from tulle.contracts.store import Compacted, Denied, LeaseGone, StoreError, Unavailable
from tulle_etcd.errors import AnswerTooLarge, Failure, store_error, watch_cancelled

AT = "http://10.0.0.1:2379"


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("NOT_FOUND", "etcdserver: requested lease not found", LeaseGone),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", Compacted),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision", Compacted),
        ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password", Denied),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", Denied),
        ("PERMISSION_DENIED", "etcdserver: permission denied", Denied),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", Denied),
        ("INVALID_ARGUMENT", "etcdserver: invalid auth token", Denied),
        ("UNAVAILABLE", "etcdserver: no leader", Unavailable),
        ("UNAVAILABLE", "Socket closed", Unavailable),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Unavailable),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", Unavailable),
        ("UNKNOWN", "something new", Unavailable),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (9 vs. 8)", AnswerTooLarge),
        ("INVALID_ARGUMENT", "etcdserver: request is too large", StoreError),
        ("UNIMPLEMENTED", "unknown service", StoreError),
    ],
)
def test_each_answer_has_its_error_which_names_endpoint_and_doing(
    code: str, details: str, kind: type[StoreError]
) -> None:
    error = store_error(Failure(code, details, AT), "list /x/")
    assert type(error) is kind
    assert AT in str(error)
    assert "list /x/" in str(error)


@pytest.mark.parametrize(
    ("details", "stale"),
    [
        ("etcdserver: invalid auth token", True),
        ("etcdserver: user name is empty", True),
        ("etcdserver: revision of auth store is old", True),
        ("etcdserver: permission denied", False),
        ("etcdserver: authentication failed, invalid user ID or password", False),
    ],
)
def test_a_new_token_is_asked_for_only_where_that_can_help(details: str, stale: bool) -> None:
    assert Failure("UNAUTHENTICATED", details, AT).stale_token is stale


@pytest.mark.parametrize(
    ("reason", "compact_revision", "kind"),
    [
        ("", 7, Compacted),
        ("etcdserver: mvcc: required revision has been compacted", 0, Compacted),
        ("rpc error: code = PermissionDenied desc = etcdserver: permission denied", 0, Denied),
        ("etcdserver: invalid auth token", 0, Denied),
        ("etcdserver: no leader", 0, Unavailable),
        ("", 0, Unavailable),
    ],
)
def test_a_watch_that_etcd_ends_has_its_reason_as_error(
    reason: str, compact_revision: int, kind: type[StoreError]
) -> None:
    assert type(watch_cancelled(reason, compact_revision, AT, "watch /x/")) is kind
