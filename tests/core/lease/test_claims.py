"""Which record owns which lease, and which of two overlapping leases stays."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.store import NO_LEASE, KeyValue, LeaseId, Revision
from tulle.lease.claims import claims, overlapping_older, owns
from tulle.lease.codec import decode_lease, encode_member
from tulle.lease.model import Lease, Member
from tulle.net.prefix import parse_subnet_key
from tulle.store.items import Item, Undecodable

US = "192.0.2.1"
KEY = "10.5.9.0-24"


def lease(
    key: str = KEY, public: str = US, store_lease: int = 7, modified: int = 5, created: int = 0
) -> Item[Lease]:
    value = f'{{"PublicIP":"{public}","PublicIPv6":null}}'.encode()
    kv = KeyValue(
        f"/p/subnets/{key}", value, Revision(created or modified), Revision(modified), 1, LeaseId(store_lease)
    )
    decoded = decode_lease(kv)
    return Item(kv, None if isinstance(decoded, Undecodable) else decoded)


def record(*keys: str, store_lease: int = 7, modified: int = 5) -> Item[Member]:
    value = Member("n1", "id", "boot", keys or (KEY,), (ip_address(US),))
    kv = KeyValue(
        "/p/members/n1", encode_member(value), Revision(modified), Revision(modified), 1, LeaseId(store_lease)
    )
    return Item(kv, value)


@pytest.mark.parametrize(
    ("found", "true"),
    [
        (lease(store_lease=7, modified=6), True),
        (lease(store_lease=8, modified=5), True),
        (lease(store_lease=NO_LEASE, modified=6), True),
        (lease(store_lease=NO_LEASE, modified=6, public="192.0.2.2"), False),
        (lease(store_lease=8, modified=6), False),
        (lease("10.5.8.0-24", store_lease=7, modified=5), False),
    ],
    ids=[
        "same store lease",
        "same revision",
        "reserved, our address",
        "reserved, another address",
        "anothers",
        "key",
    ],
)
def test_a_claim_is_true_by_the_stores_lease_by_a_common_revision_or_by_a_reservations_address(
    found: Item[Lease], true: bool
) -> None:
    assert owns(record(), found) is true


def test_a_record_without_sense_owns_nothing() -> None:
    assert not owns(Item(record().kv, None), lease())


def test_a_reservation_without_sense_is_nobodys() -> None:
    reserved = lease(store_lease=NO_LEASE, modified=9)
    assert owns(record(), reserved)
    assert not owns(record(), Item(reserved.kv, None))


def test_a_claim_names_keys_whatever_stands_before_them() -> None:
    member = record(KEY, "fd00::-64").value
    assert member is not None
    assert claims(member, lease().kv)
    assert claims(member, lease("fd00::-64").kv)
    assert not claims(member, lease("10.5.9.0-25").kv)


def by_key(*items: Item[Lease]) -> dict[str, Item[Lease]]:
    return {item.kv.key: item for item in items}


def test_of_two_overlapping_leases_the_younger_one_knows_it() -> None:
    older, younger = lease("10.5.8.0-23", modified=5), lease(KEY, modified=6)
    both = by_key(older, younger, lease("10.5.10.0-24", modified=1))
    assert overlapping_older(younger, both) == ["/p/subnets/10.5.8.0-23"]
    assert overlapping_older(older, both) == []
    assert overlapping_older(Item(younger.kv, None), both) == []


def test_age_is_counted_from_the_creation_and_not_from_the_last_write() -> None:
    older, younger = lease("10.5.8.0-23", created=2, modified=9), lease(KEY, created=3, modified=4)
    assert overlapping_older(younger, by_key(older, younger)) == [older.kv.key]
    assert overlapping_older(older, by_key(older, younger)) == []


KEYS = st.builds(
    lambda v4, n, v6, m: "&".join(
        [*([f"10.5.{n}.0-24"] if v4 else []), *([f"fd00:0:0:{m}::-64"] if v6 or not v4 else [])]
    ),
    st.booleans(),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 3),
)


@given(st.lists(KEYS, min_size=2, max_size=8, unique=True))
def test_whatever_overlaps_someone_yields_and_who_remain_overlap_nobody(keys: list[str]) -> None:
    """As nodes do it: each that finds an older one goes, until none does."""
    leases = by_key(*(lease(key, created=age, modified=age) for age, key in enumerate(keys, start=1)))
    while losers := [key for key, item in leases.items() if overlapping_older(item, leases)]:
        del leases[losers[-1]]
    prefixes = [prefix for key in leases for prefix in parse_subnet_key(key.rpartition("/")[2]) or ()]
    assert len(prefixes) == len(set(prefixes))
    assert f"/p/subnets/{keys[0]}" in leases
