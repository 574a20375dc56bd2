"""The etcd methods that are called, by their published paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from tulle_etcd import messages_pb2 as pb

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Method(NamedTuple, Generic[Request, Response]):
    """One method: its path, and how its messages are written and read."""

    path: str
    serialize: Callable[[Request], bytes]
    deserialize: Callable[[bytes], Response]


def _method(path: str, request: type[Request], response: type[Response]) -> Method[Request, Response]:
    read: Any = response.FromString
    return Method(f"/etcdserverpb.{path}", request.SerializeToString, read)


RANGE = _method("KV/Range", pb.RangeRequest, pb.RangeResponse)
TXN = _method("KV/Txn", pb.TxnRequest, pb.TxnResponse)
WATCH = _method("Watch/Watch", pb.WatchRequest, pb.WatchResponse)
LEASE_GRANT = _method("Lease/LeaseGrant", pb.LeaseGrantRequest, pb.LeaseGrantResponse)
LEASE_REVOKE = _method("Lease/LeaseRevoke", pb.LeaseRevokeRequest, pb.LeaseRevokeResponse)
LEASE_KEEP_ALIVE = _method("Lease/LeaseKeepAlive", pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse)
LEASE_TIME_TO_LIVE = _method("Lease/LeaseTimeToLive", pb.LeaseTimeToLiveRequest, pb.LeaseTimeToLiveResponse)
STATUS = _method("Maintenance/Status", pb.StatusRequest, pb.StatusResponse)
AUTHENTICATE = _method("Auth/Authenticate", pb.AuthenticateRequest, pb.AuthenticateResponse)
