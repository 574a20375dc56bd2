"""Lease values, against bytes as flannel writes them; and whatever else may lie in the store."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.store import KeyValue, LeaseId, Revision
from tulle.lease.codec import (
    decode_alive,
    decode_lease,
    decode_member,
    encode_alive,
    encode_lease,
    encode_member,
)
from tulle.lease.model import Alive, Lease, Member
from tulle.store.items import Undecodable

# What flannel writes, by backend (facts of its etcd v3 schema).
FLANNEL = {
    "udp": b'{"PublicIP":"192.0.2.1","PublicIPv6":null}',
    "host-gw": b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"host-gw"}',
    "vxlan": b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan",'
    b'"BackendData":{"VNI":1,"VtepMAC":"6e:31:a0:b1:c2:d3"}}',
    "vxlan-dual": b'{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan",'
    b'"BackendData":{"VNI":1,"VtepMAC":"6e:31:a0:b1:c2:d3"},'
    b'"BackendV6Data":{"VNI":1,"VtepMAC":"6e:31:a0:b1:c2:d4"}}',
    "wireguard": b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"wireguard",'
    b'"BackendData":{"PublicKey":"lTz8nZ1L5GJyAn6/QnBWvWcnV0dkUSpVmPsDkGZUJnc=","Port":51820}}',
    "extension": b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"extension","BackendData":"text"}',
    "v6-only": b'{"PublicIP":null,"PublicIPv6":"2001:db8::1"}',
}


def _kv(key: str, value: bytes, lease: int = 7) -> KeyValue:
    return KeyValue(f"/coreos.com/network/{key}", value, Revision(3), Revision(9), 2, LeaseId(lease))


def _lease(value: bytes, key: str = "10.5.52.0-24") -> Lease:
    lease = decode_lease(_kv(f"subnets/{key}", value))
    assert isinstance(lease, Lease)
    return lease


@pytest.mark.parametrize("value", FLANNEL.values(), ids=FLANNEL)
def test_what_flannel_writes_is_read_and_written_back_byte_for_byte(value: bytes) -> None:
    assert encode_lease(_lease(value)) == value


def test_every_field_of_a_dual_stack_lease_is_understood() -> None:
    lease = _lease(FLANNEL["vxlan-dual"], "10.12.13.0-24&fd00:12:13::-56")
    assert lease.key == "10.12.13.0-24&fd00:12:13::-56"
    assert lease.prefixes == (IPv4Network("10.12.13.0/24"), IPv6Network("fd00:12:13::/56"))
    assert lease.public == {4: IPv4Address("192.0.2.1"), 6: IPv6Address("2001:db8::1")}
    assert lease.backend == "vxlan"
    assert lease.data["VtepMAC"].endswith("d3")
    assert lease.data_v6["VtepMAC"].endswith("d4")
    assert (lease.store_lease, lease.revision, lease.reserved) == (7, 9, False)


def test_an_ipv6_only_lease_has_a_null_public_ip() -> None:
    lease = Lease("fd00::-64", (IPv6Network("fd00::/64"),), {6: IPv6Address("2001:db8::1")})
    assert encode_lease(lease) == FLANNEL["v6-only"]


def test_a_key_without_a_store_lease_is_a_reservation() -> None:
    lease = decode_lease(_kv("subnets/10.5.52.0-24", FLANNEL["udp"], lease=0))
    assert isinstance(lease, Lease)
    assert lease.reserved


def test_names_are_read_in_any_case_and_the_last_one_counts_as_in_go() -> None:
    lease = _lease(b'{"publicip":"192.0.2.9","PUBLICIP":"192.0.2.1","backendtype":"vxlan"}')
    assert lease.public == {4: IPv4Address("192.0.2.1")}
    assert lease.backend == "vxlan"


def test_fields_that_nobody_here_knows_are_written_back() -> None:
    value = b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"Zone":{"Rack":[1,2]}}'
    assert encode_lease(_lease(value)) == value


@pytest.mark.parametrize("missing", ["null", '""', '"0.0.0.0"'])
def test_go_has_several_words_for_no_address(missing: str) -> None:
    assert _lease(f'{{"PublicIP":{missing},"PublicIPv6":"::"}}'.encode()).public == {}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", r"not a JSON object but \[1\]"),
        (b"7", "not a JSON object but 7"),
        (b'{"PublicIP":"192.0.2.256"}', "PublicIP holds '192.0.2.256', which is no address"),
        (b'{"PublicIP":"2001:db8::1"}', "PublicIP is 2001:db8::1, which is not an IPv4 address"),
        (b'{"PublicIP":3221225985}', "PublicIP holds 3221225985, which is no address"),
        (b'{"PublicIPv6":"fe80::1%eth0"}', "no address"),
        (b'{"BackendType":["vxlan"]}', "BackendType is .*, which is not text"),
    ],
)
def test_a_value_that_makes_no_sense_gives_a_reason(value: bytes, reason: str) -> None:
    found = decode_lease(_kv("subnets/10.5.52.0-24", value))
    assert isinstance(found, Undecodable)
    assert re.search(reason, found.reason), found.reason


@pytest.mark.parametrize(
    "key", ["", "foo", "10.5.52.0", "10.5.52.1-24", "10.5.52.0-33", "10.5.52.0/24", "fd00::-64&10.5.0.0-24"]
)
def test_a_key_that_is_no_subnet_gives_a_reason(key: str) -> None:
    found = decode_lease(_kv(f"subnets/{key}", FLANNEL["udp"]))
    assert isinstance(found, Undecodable)
    assert "its key" in found.reason


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["PublicIP", "publicipv6", "BackendType", "BackendData", "BACKENDV6DATA", "ID", "bootid", "Subnets", "X"]
)


@given(st.binary(max_size=60) | st.dictionaries(NAMES, JSON_VALUES).map(lambda d: json.dumps(d).encode()))
def test_no_bytes_whatever_raise_an_exception(value: bytes) -> None:
    for decode in (decode_lease, decode_member):
        found: Any = decode(_kv("subnets/10.5.52.0-24", value))
        if isinstance(found, Lease):
            again = decode_lease(_kv("subnets/10.5.52.0-24", encode_lease(found)))
            assert isinstance(again, Lease)
    decode_alive(value)


@given(st.text(max_size=60))
def test_no_key_whatever_raises_an_exception(key: str) -> None:
    decode_lease(_kv(f"subnets/{key}", FLANNEL["udp"]))
    decode_member(_kv(f"members/{key}", b"{}"))


def test_a_member_record_is_read_as_it_was_written_with_what_a_later_version_added() -> None:
    value = (
        b'{"ID":"5f3a","BootID":"b1","Subnets":["10.5.52.0-24"],'
        b'"Endpoints":["192.0.2.1","2001:db8::1"],"Zone":"a"}'
    )
    member = decode_member(_kv("members/n1", value))
    assert member == Member(
        "n1",
        "5f3a",
        "b1",
        ("10.5.52.0-24",),
        (IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")),
        {"Zone": "a"},
    )
    assert encode_member(member) == value


@pytest.mark.parametrize(
    "value", [b'{"Subnets":"x"}', b'{"Subnets":[1]}', b'{"Endpoints":["x"]}', b'{"ID":1}']
)
def test_a_member_record_that_makes_no_sense_gives_a_reason(value: bytes) -> None:
    assert isinstance(decode_member(_kv("members/n1", value)), Undecodable)


def test_an_alive_record_is_read_as_it_was_written() -> None:
    assert decode_alive(encode_alive(Alive("5f3a", "b1"))) == Alive("5f3a", "b1")
    assert isinstance(decode_alive(b"junk"), Undecodable)
