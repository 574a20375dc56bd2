"""Leases and member records into peers, change by change."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.store import KeyValue, LeaseId, Revision
from tulle.lease.codec import decode_lease, encode_member
from tulle.lease.model import Lease, Member
from tulle.lease.table import PeerTable
from tulle.store.items import Changes, Item, Undecodable

OWN = "10.5.1.0-24"


def table() -> PeerTable:
    return PeerTable(OWN, [ip_network("10.5.1.0/24")], [ip_network("10.5.0.0/16"), ip_network("fd00::/48")])


def lease(
    key: str,
    value: bytes = b'{"PublicIP":"192.0.2.9"}',
    lease: int = 7,
    modified: int = 5,
    created: int = 1,
) -> Item[Lease]:
    kv = KeyValue(f"/p/subnets/{key}", value, Revision(created), Revision(modified), 1, LeaseId(lease))
    decoded = decode_lease(kv)
    return Item(kv, None if isinstance(decoded, Undecodable) else decoded)


def member(name: str, *keys: str, lease: int = 7, modified: int = 5) -> Item[Member]:
    value = Member(name, "id", "boot", keys, (ip_address("172.16.0.9"), ip_address("192.0.2.9")))
    kv = KeyValue(
        f"/p/members/{name}", encode_member(value), Revision(1), Revision(modified), 1, LeaseId(lease)
    )
    return Item(kv, value)


def changes(*upserted: Item[Any], deleted: tuple[Item[Any], ...] = ()) -> Changes[Any]:
    return Changes(True, {item.kv.key: item for item in upserted}, {item.kv.key: item for item in deleted})


def test_a_lease_alone_is_a_peer_named_by_its_key() -> None:
    peers = table()
    assert peers.apply(changes(lease("10.5.9.0-24")), None)
    (peer,) = peers.peers()
    assert (peer.key, peer.node, peer.backend) == ("10.5.9.0-24", "10.5.9.0-24", "")
    assert peer.endpoints == (ip_address("192.0.2.9"),)
    assert peer.revision == 5


def test_a_member_record_gives_name_and_further_addresses_whichever_comes_first() -> None:
    record, its_lease = member("n9", "10.5.9.0-24"), lease("10.5.9.0-24")
    first, second = table(), table()
    assert not first.apply(None, changes(record))
    assert first.apply(changes(its_lease), None)
    second.apply(changes(its_lease), None)
    assert second.apply(None, changes(record))
    assert first.peers() == second.peers()
    (peer,) = first.peers()
    assert peer.node == "n9"
    assert peer.endpoints == (ip_address("192.0.2.9"), ip_address("172.16.0.9"))
    assert first.apply(None, changes(deleted=(record,)))
    assert first.peers()[0].node == "10.5.9.0-24"


def test_a_record_whose_claim_is_no_longer_true_names_nobody() -> None:
    peers = table()
    peers.apply(changes(lease("10.5.9.0-24", lease=8, modified=9)), changes(member("n9", "10.5.9.0-24")))
    assert peers.peers()[0].node == "10.5.9.0-24"


def test_our_own_lease_is_no_peer() -> None:
    peers = table()
    assert not peers.apply(changes(lease(OWN)), None)
    assert peers.peers() == ()


def test_what_lies_outside_the_networks_or_over_our_own_is_refused_with_a_reason() -> None:
    peers = table()
    bad = ["0.0.0.0-0", "10.6.0.0-24", "10.4.0.0-15", "10.5.1.128-25", "10.5.0.0-16", "fe80::-64", "::-0"]
    assert not peers.apply(changes(*map(lease, bad)), None)
    assert peers.peers() == ()
    assert set(peers.refused) == set(bad)
    assert "outside the cluster's networks" in peers.refused["0.0.0.0-0"]
    assert "overlaps our own subnet" in peers.refused["10.5.1.128-25"]
    peers.apply(changes(deleted=tuple(map(lease, bad))), None)
    assert peers.refused == {}


def test_of_leases_that_share_addresses_the_older_is_the_peer_and_when_it_goes_the_other() -> None:
    peers = table()
    young = lease("10.5.9.0-25", created=8, modified=8)
    old = lease("10.5.9.0-24", created=3)
    pair = lease("10.5.9.0-24&fd00:0:0:9::-64", created=4)
    apart = lease("10.5.8.0-24", created=9)
    peers.apply(changes(young, apart), None)
    assert {peer.key for peer in peers.peers()} == {"10.5.9.0-25", "10.5.8.0-24"}
    assert peers.apply(changes(old, pair), None)
    assert {peer.key for peer in peers.peers()} == {"10.5.9.0-24", "10.5.8.0-24"}
    assert peers.refused == {
        "10.5.9.0-25": "it overlaps 10.5.9.0-24, 10.5.9.0-24&fd00:0:0:9::-64, which is older",
        "10.5.9.0-24&fd00:0:0:9::-64": "it overlaps 10.5.9.0-24, which is older",
    }
    peers.apply(changes(deleted=(old,)), None)
    assert {peer.key for peer in peers.peers()} == {"10.5.9.0-24&fd00:0:0:9::-64", "10.5.8.0-24"}
    peers.apply(changes(deleted=(pair,)), None)
    assert {peer.key for peer in peers.peers()} == {"10.5.9.0-25", "10.5.8.0-24"}
    assert peers.refused == {}


def test_a_value_that_stops_making_sense_ends_the_peer() -> None:
    peers = table()
    peers.apply(changes(lease("10.5.9.0-24")), None)
    assert peers.apply(changes(lease("10.5.9.0-24", b"junk")), None)
    assert peers.peers() == ()


@pytest.mark.parametrize(
    ("data", "text"), [("[7]", None), ("7", None), ("null", None), ('"a text"', "a text")]
)
def test_of_backend_data_that_is_no_object_only_a_text_is_given_to_backends(
    data: str, text: str | None
) -> None:
    peers = table()
    value = f'{{"PublicIP":"192.0.2.9","BackendData":{data}}}'.encode()
    peers.apply(changes(lease("10.5.9.0-24", value)), None)
    (peer,) = peers.peers()
    assert (peer.data, peer.data_text) == ({}, text)


def test_a_change_that_changes_nothing_is_none() -> None:
    peers = table()
    item = lease("10.5.9.0-24")
    assert peers.apply(changes(item), None)
    assert not peers.apply(changes(item), None)
    assert not peers.apply(None, None)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["lease", "wide", "junk", "unlease", "unwide", "member", "unmember"]),
        st.integers(1, 4),
        st.integers(1, 4),
        st.integers(7, 8),
    ),
    max_size=30,
)


@given(STEPS)
def test_change_by_change_gives_what_all_at_once_gives(steps: list[tuple[str, int, int, int]]) -> None:
    peers = table()
    leases: dict[str, Item[Lease]] = {}
    members: dict[str, Item[Member]] = {}
    for number, (step, key, name, store_lease) in enumerate(steps):
        subnet = f"10.5.{key & ~1}.0-23" if "wide" in step else f"10.5.{key}.0-24"
        if step in ("lease", "wide", "junk"):
            value = b"junk" if step == "junk" else b'{"PublicIP":"192.0.2.9"}'
            before = leases.get(f"/p/subnets/{subnet}")
            created = before.kv.created if before else number
            item = lease(subnet, value, store_lease, number, created)
            leases[item.kv.key] = item
            peers.apply(changes(item), None)
        elif step in ("unlease", "unwide") and (gone := leases.pop(f"/p/subnets/{subnet}", None)):
            peers.apply(changes(deleted=(gone,)), None)
        elif step == "member":
            record = member(f"n{name}", f"10.5.{key}.0-24", lease=store_lease, modified=number)
            members[record.kv.key] = record
            peers.apply(None, changes(record))
        elif step == "unmember" and (left := members.pop(f"/p/members/n{name}", None)):
            peers.apply(None, changes(deleted=(left,)))
    whole = table()
    whole.apply(changes(*leases.values()), changes(*members.values()))
    assert {peer.key: peer for peer in peers.peers()} == {peer.key: peer for peer in whole.peers()}
    assert peers.refused == whole.refused
