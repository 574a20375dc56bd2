"""What etcd and gRPC answer when something is wrong, as the errors of `tulle.contracts.store`. Pure.

etcd's texts have been stable since 3.0 and tell more than the status codes, which it uses loosely (an expired token
is Unauthenticated in one release and InvalidArgument in another), so the text is looked at first.
"""

from __future__ import annotations

from typing import NamedTuple

from tulle.contracts.store import Compacted, Denied, LeaseGone, StoreError, Unavailable

STALE_TOKEN = (
    "invalid auth token",
    "user name is empty",  # authentication was switched on after we had found it off
    "revision of auth store is old",
)
AUTH_OFF = "authentication is not enabled"
TOO_LARGE = "larger than max"  # gRPC's own text for an answer above grpc.max_receive_message_length

_DENIED_CODES = ("PERMISSION_DENIED", "UNAUTHENTICATED")
_REFUSED_CODES = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED", "NOT_FOUND", "OUT_OF_RANGE")


class Failure(NamedTuple):
    """A call that ended badly."""

    code: str
    """Name of the gRPC status: "UNAVAILABLE"."""
    details: str
    endpoint: str

    @property
    def stale_token(self) -> bool:
        """True: the server did nothing, and wants a new token."""
        return any(text in self.details for text in STALE_TOKEN)

    @property
    def answer_too_large(self) -> bool:
        return self.code == "RESOURCE_EXHAUSTED" and TOO_LARGE in self.details


class AnswerTooLarge(StoreError):
    """The answer is longer than what we are ready to receive: ask for less at a time."""


def store_error(failure: Failure, doing: str) -> StoreError:
    """The error to raise. `doing`: what was tried, as "list /coreos.com/network/"."""
    code, details, endpoint = failure
    where = f"etcd at {endpoint}: {doing}"
    if failure.answer_too_large:
        return AnswerTooLarge(f"{where}: the answer is too large ({details}): make the value smaller")
    said = details.removeprefix("etcdserver: ") or code
    if "lease not found" in details:
        return LeaseGone(f"{where}: the lease has expired or was revoked: ask for a new one")
    if "has been compacted" in details or "future revision" in details:
        return Compacted(f"{where}: that revision is not in etcd's history ({said}): list again")
    if "authentication failed" in details:
        return Denied(f"{where}: wrong user name or password: check --etcd-username and --etcd-password-file")
    if "user name is empty" in details:
        return Denied(f"{where}: etcd wants a user: give --etcd-username and --etcd-password-file")
    if code in _DENIED_CODES or failure.stale_token:
        return Denied(f"{where}: refused ({said}): grant the user's role read and write on the prefix")
    if "database space exceeded" in details:
        return Unavailable(
            f"{where}: etcd's database is full: compact and defragment it, then disarm its alarm"
        )
    if code == "DEADLINE_EXCEEDED":
        return Unavailable(f"{where}: no answer in time: check etcd's load and the network to it")
    if code in _REFUSED_CODES:
        return StoreError(f"{where}: refused ({code}: {said})")
    return Unavailable(f"{where}: {said}: check that etcd runs and is reachable from here")


def watch_cancelled(reason: str, compact_revision: int, endpoint: str, doing: str) -> StoreError:
    """Why etcd ended a watch by itself. `compact_revision`: the oldest one left, 0 where that was not it."""
    if compact_revision:
        return Compacted(
            f"etcd at {endpoint}: {doing}: history before {compact_revision} is gone: list again"
        )
    # Older releases put the whole gRPC error into the reason, code included.
    denied = "permission denied" in reason or any(text in reason for text in STALE_TOKEN)
    code = "PERMISSION_DENIED" if denied else "UNAVAILABLE"
    return store_error(Failure(code, reason or "the watch was cancelled", endpoint), doing)
