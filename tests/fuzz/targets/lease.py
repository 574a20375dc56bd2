"""Keys and values that any node may have written: leases, members, signs of life."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from tulle.contracts.store import NO_LEASE, KeyValue, Revision
from tulle.lease.codec import (
    decode_alive,
    decode_lease,
    decode_member,
    encode_alive,
    encode_lease,
    encode_member,
)
from tulle.lease.model import Lease, Member
from tulle.lease.table import PeerTable
from tulle.net.prefix import parse_prefix, parse_subnet_key, subnet_key
from tulle.store.items import Changes, Item, Undecodable

T = TypeVar("T")

REASON_CHARACTERS = 400
"""A reason is for a line of a log, whatever was written."""
SEEDS = [
    b'10.5.52.0-24\n{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1}}',
    b'10.5.52.0-24&fd00:5:34::-64\n{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendV6Data":{"a":[1]}}',
    b'fd00:5:34::-64\n{"publicip":"0.0.0.0","PublicIPv6":"2001:db8::1","Else":1e5,"Other":[null,true]}',
    b'node-1\n{"ID":"ab","BootID":"cd","Subnets":["10.5.52.0-24"],"Endpoints":["192.0.2.1","2001:db8::1"]}',
    b'node-1\n{"ID":"ab","BootID":"cd"}',
    b'node-1\n{"ID":"ab","BootID":"cd","Subnets":["10.5.52.0-24","10.5.52.0-24"]}',
    b'10.5.52.0-24\n{"PublicIP":1,"x":123456789012345678901234567890}',
    b"10.5.52.0-24\n" + b"[" * 60 + b"]" * 60,
]
NETWORK = parse_prefix("10.5.0.0/16")


def target(data: bytes) -> None:
    head, _, value = data.partition(b"\n")
    name = head.decode(errors="replace")
    _check_key(name)
    table = PeerTable("10.5.1.0-24", (parse_prefix("10.5.1.0/24"),), (NETWORK,))
    lease = _check_lease(_kv("subnets", name, value))
    member = _check_member(_kv("members", name, value))
    table.apply(_news(lease), _news(member))
    for peer in table.peers():
        assert peer.key == name
        assert all(prefix.subnet_of(NETWORK) for prefix in peer.prefixes)  # type: ignore[arg-type]
    table.apply(_end(lease), _end(member))
    assert (table.peers(), table.refused) == ((), {})
    alive = decode_alive(value)
    if isinstance(alive, Undecodable):
        _check_reason(alive)
    else:
        assert decode_alive(encode_alive(alive)) == alive


def _kv(room: str, name: str, value: bytes) -> KeyValue:
    return KeyValue(f"/coreos.com/network/{room}/{name}", value, Revision(1), Revision(1), 1, NO_LEASE)


def _news(item: Item[T]) -> Changes[T]:
    return Changes(True, {item.kv.key: item}, {})


def _end(item: Item[T]) -> Changes[T]:
    return Changes(True, {}, {item.kv.key: item})


def _check_key(name: str) -> None:
    prefixes = parse_subnet_key(name)
    assert prefixes is None or subnet_key(prefixes) == name


def _check_lease(kv: KeyValue) -> Item[Lease]:
    lease = decode_lease(kv)
    if isinstance(lease, Undecodable):
        _check_reason(lease)
        return Item(kv, None)
    written = encode_lease(lease)
    again = decode_lease(msgspec.structs.replace(kv, value=written))
    assert isinstance(again, Lease)
    # flannel leaves out data that says nothing
    meant = {"data": _said(lease.data), "data_v6": _said(lease.data_v6)}
    assert again == msgspec.structs.replace(lease, **meant)
    assert encode_lease(again) == written
    return Item(kv, lease)


def _said(content: object) -> object:
    return None if content == {} else content


def _check_member(kv: KeyValue) -> Item[Member]:
    member = decode_member(kv)
    if isinstance(member, Undecodable):
        _check_reason(member)
        return Item(kv, None)
    assert decode_member(msgspec.structs.replace(kv, value=encode_member(member))) == member
    return Item(kv, member)


def _check_reason(bad: Undecodable) -> None:
    assert 0 < len(bad.reason) <= REASON_CHARACTERS
