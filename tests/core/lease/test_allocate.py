"""The order in which a node looks for its subnet, and what it never takes."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.store import Delete, KeyValue, LeaseId, Revision, unchanged
from tulle.lease.allocate import CHOICES, Create, Full, Me, Reuse, TakeOver, fits, plan
from tulle.lease.codec import decode_lease, decode_member, encode_member
from tulle.lease.model import Lease, Member
from tulle.net.prefix import parse_prefix, subnet_key
from tulle.net.subnets import SubnetRange
from tulle.store.items import Item, Undecodable

V4 = SubnetRange(ip_network("10.5.0.0/16"), 24, ip_address("10.5.1.0"), ip_address("10.5.255.0"))
V6 = SubnetRange(ip_network("fd00::/48"), 64, ip_address("fd00:0:0:1::"), ip_address("fd00:0:0:ffff::"))
SMALL = SubnetRange(ip_network("10.5.0.0/28"), 30, ip_address("10.5.0.4"), ip_address("10.5.0.12"))
US = "192.0.2.1"
THEM = "192.0.2.2"


def lease(key: str, public: str | None = THEM, store_lease: int = 7, modified: int = 5) -> Item[Lease]:
    text = f'"{public}"' if public else "null"
    kv = KeyValue(
        f"/p/subnets/{key}",
        f'{{"PublicIP":{text},"PublicIPv6":null}}'.encode(),
        Revision(modified),
        Revision(modified),
        1,
        LeaseId(store_lease),
    )
    value = decode_lease(kv)
    return Item(kv, None if isinstance(value, Undecodable) else value)


def member(
    name: str, *keys: str, store_lease: int = 7, modified: int = 5, node_id: str = "", endpoint: str = US
) -> Item[Member]:
    value = Member(name, node_id or f"id-{name}", "boot", keys, (ip_address(endpoint),))
    kv = KeyValue(
        f"/p/members/{name}",
        encode_member(value),
        Revision(modified),
        Revision(modified),
        1,
        LeaseId(store_lease),
    )
    decoded = decode_member(kv)
    assert isinstance(decoded, Member)
    return Item(kv, decoded)


def by_key(*items: Item) -> dict[str, Item]:
    return {item.kv.key: item for item in items}


def me(*previous: str) -> Me:
    return Me("n1", "id-n1", "boot", {4: ip_address(US)}, tuple(map(parse_prefix, previous)))


def decide(leases=(), members=(), ranges=(V4,), who=None, seed=1):  # type: ignore[no-untyped-def]
    return plan(ranges, by_key(*leases), by_key(*members), who or me(), random.Random(seed))


def test_our_own_lease_comes_first_whatever_its_address() -> None:
    ours = lease("10.5.9.0-24", "198.51.100.7")
    found = decide([ours, lease("10.5.8.0-24", US)], [member("n1", "10.5.9.0-24")], who=me("10.5.7.0/24"))
    assert isinstance(found, Reuse)
    assert (found.key, found.adopt, found.drop) == ("10.5.9.0-24", True, ())
    assert found.prefixes == (ip_network("10.5.9.0/24"),)
    assert found.current == ours


@pytest.mark.parametrize("change", [{"node_id": "another"}, {"node_id": ""}])
def test_a_lease_of_another_machine_with_our_name_is_written_anew(change: dict[str, str]) -> None:
    found = decide([lease("10.5.9.0-24")], [member("n1", "10.5.9.0-24", **change)])
    assert isinstance(found, Reuse)
    assert found.adopt is (change["node_id"] == "")


def test_a_lease_that_our_record_names_but_that_another_got_meanwhile_is_not_ours() -> None:
    found = decide(
        [lease("10.5.9.0-24", THEM, store_lease=8, modified=9)],
        [member("n1", "10.5.9.0-24", store_lease=7, modified=5)],
    )
    assert isinstance(found, Create)
    assert found.key != "10.5.9.0-24"


def test_an_own_lease_that_no_longer_fits_goes_in_the_same_transaction() -> None:
    old = lease("10.6.1.0-24", US)
    found = decide([old], [member("n1", "10.6.1.0-24")])
    assert isinstance(found, Create)
    assert found.guards() == [unchanged("/p/subnets/10.6.1.0-24", Revision(5))]
    assert found.also() == [Delete("/p/subnets/10.6.1.0-24")]


def test_an_own_lease_that_does_not_fit_leaves_its_place_to_its_successor() -> None:
    old = lease("10.5.0.0-28", US)
    found = decide([old], [member("n1", "10.5.0.0-28")], ranges=(SMALL,))
    assert isinstance(found, Create)
    assert found.drop == (old.kv,)


def test_a_reservation_that_does_not_fit_is_left_to_the_person_who_made_it() -> None:
    found = decide([lease("10.6.1.0-24", US, store_lease=0)], [member("n1", "10.6.1.0-24", store_lease=0)])
    assert isinstance(found, Create)
    assert found.drop == ()


def test_a_lease_with_our_address_that_nobody_names_is_flannels_and_taken_over() -> None:
    found = decide([lease("10.5.9.0-24", US), lease("10.5.8.0-24", THEM)])
    assert isinstance(found, TakeOver)
    assert found.key == "10.5.9.0-24"


def test_a_reservation_for_our_address_is_preferred() -> None:
    found = decide([lease("10.5.8.0-24", US), lease("10.5.9.0-24", US, store_lease=0)])
    assert isinstance(found, TakeOver)
    assert found.key == "10.5.9.0-24"


def test_a_lease_with_our_address_that_another_record_names_is_never_taken() -> None:
    found = decide([lease("10.5.9.0-24", US)], [member("n2", "10.5.9.0-24")])
    assert isinstance(found, Create)
    stale = decide([lease("10.5.9.0-24", US, modified=9, store_lease=9)], [member("n2", "10.5.9.0-24")])
    assert isinstance(stale, Create)


def test_a_lease_with_our_address_that_does_not_fit_is_left_alone() -> None:
    found = decide([lease("10.6.9.0-24", US)])
    assert isinstance(found, Create)
    assert found.drop == ()


def test_the_subnet_of_the_last_run_is_taken_where_it_is_free_and_fits() -> None:
    found = decide(who=me("10.5.77.0/24"))
    assert isinstance(found, Create)
    assert (found.key, found.why) == ("10.5.77.0-24", "the subnet of the last run")
    for leases, wish in (
        ([lease("10.5.77.0-25")], "10.5.77.0/24"),
        ([], "10.6.77.0/24"),
        ([], "10.5.0.0/24"),
    ):
        found = decide(leases, who=me(wish))
        assert isinstance(found, Create)
        assert found.why == "a free subnet"


def test_a_random_one_of_the_first_hundred_free_ones_is_taken() -> None:
    taken = [lease(f"10.5.{number}.0-24") for number in range(1, 100)]
    found = {decide(taken, seed=seed).key for seed in range(300)}
    numbers = {int(key.split(".")[2]) for key in found}
    assert numbers <= set(range(100, 100 + CHOICES))
    assert len(numbers) > 50


def test_a_key_counts_as_taken_also_where_its_value_makes_no_sense_or_its_length_is_another() -> None:
    junk = Item(KeyValue("/p/subnets/10.5.0.4-30", b"junk", Revision(1), Revision(1), 1), None)
    found = decide([junk, lease("10.5.0.8-31")], ranges=(SMALL,))
    assert isinstance(found, Create)
    assert found.key == "10.5.0.12-30"


def test_a_network_without_a_free_subnet_is_full() -> None:
    found = decide([lease(f"10.5.0.{n}-30") for n in (4, 8, 12)], ranges=(SMALL,))
    assert found == Full(ip_network("10.5.0.0/28"), 3)
    pairs = decide([lease(f"10.5.0.{n}-30") for n in (4, 8, 12)], ranges=(SMALL, V6))
    assert isinstance(pairs, Full)


def test_a_pair_has_the_same_number_in_both_ranges_where_that_is_free() -> None:
    found = decide(ranges=(V4, V6))
    assert isinstance(found, Create)
    v4, v6 = found.prefixes
    assert V4.nth((int(v4.network_address) >> 8 & 255) - 1) == v4
    assert int(v6.network_address) >> 64 & 0xFFFF == int(v4.network_address) >> 8 & 255
    assert found.key == subnet_key((v4, v6))


def test_the_half_of_a_pair_that_we_had_before_ipv6_was_turned_on_is_kept() -> None:
    found = decide(ranges=(V4, V6), who=me("10.5.77.0/24"))
    assert isinstance(found, Create)
    assert found.key == "10.5.77.0-24&fd00:0:0:4d::-64"


def test_fits_wants_each_family_once() -> None:
    assert fits((V4,), "10.5.9.0-24")
    assert not fits((V4,), "10.5.9.0-24&fd00:0:0:1::-64")
    assert not fits((V4, V6), "10.5.9.0-24")
    assert fits((V4, V6), "10.5.9.0-24&fd00:0:0:1::-64")
    assert not fits((V4,), "10.5.0.0-24")
    assert not fits((V4,), "junk")


@given(
    st.lists(st.integers(0, 63), max_size=40),
    st.lists(st.integers(0, 63), max_size=2),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_what_is_picked_never_overlaps_what_is_taken_and_full_means_full(
    taken: list[int], previous: list[int], seed: int, dual: bool
) -> None:
    small4 = SubnetRange(ip_network("10.5.0.0/24"), 28, ip_address("10.5.0.16"), ip_address("10.5.0.240"))
    small6 = SubnetRange(ip_network("fd00::/60"), 62, ip_address("fd00:0:0:4::"), ip_address("fd00:0:0:c::"))
    ranges = (small4, small6) if dual else (small4,)
    leases = [lease(f"10.5.0.{4 * n}-30") for n in taken]
    wishes = [f"10.5.0.{16 * (n % 16)}/28" for n in previous]
    found = decide(leases, ranges=ranges, who=me(*wishes), seed=seed)
    free = small4.first_free([item.value.prefixes[0] for item in leases if item.value], 100)
    if isinstance(found, Full):
        assert not free
        return
    assert found.prefixes[0] in free
    assert fits(ranges, found.key)
    if any(parse_prefix(wish) in free for wish in wishes):
        assert str(found.prefixes[0]) in wishes


def test_an_own_or_flannels_lease_of_which_an_older_one_has_a_part_is_not_taken() -> None:
    older = lease("10.5.8.0-23", "192.0.2.77", store_lease=3, modified=2)
    own = decide([older, lease("10.5.9.0-24", US)], [member("n1", "10.5.9.0-24")])
    assert isinstance(own, Create)
    assert [kv.key for kv in own.drop] == ["/p/subnets/10.5.9.0-24"]
    flannels = decide([older, lease("10.5.9.0-24", US)])
    assert isinstance(flannels, Create)
    assert not flannels.prefixes[0].overlaps(ip_network("10.5.8.0/23"))
    younger = lease("10.5.8.0-23", "192.0.2.77", store_lease=3, modified=9)
    assert isinstance(decide([younger, lease("10.5.9.0-24", US)], [member("n1", "10.5.9.0-24")]), Reuse)


@given(
    st.lists(st.integers(0, 3), max_size=4, unique=True),
    st.lists(st.integers(0, 3), max_size=4, unique=True),
    st.integers(0, 2**32),
)
def test_a_pair_that_is_picked_is_free_in_both_halves_and_full_means_that_one_family_is(
    taken4: list[int], taken6: list[int], seed: int
) -> None:
    small4 = SubnetRange(ip_network("10.5.0.0/28"), 30, ip_address("10.5.0.0"), ip_address("10.5.0.12"))
    small6 = SubnetRange(ip_network("fd00::/60"), 62, ip_address("fd00::"), ip_address("fd00:0:0:c::"))
    leases = [lease(f"10.5.0.{4 * n}-30") for n in taken4]
    leases += [lease(f"{small6.nth(n).network_address}-62") for n in taken6]
    found = decide(leases, ranges=(small4, small6), seed=seed)
    if isinstance(found, Full):
        assert len(taken4) == 4 or len(taken6) == 4
        return
    v4, v6 = found.prefixes
    assert v4 in {small4.nth(n) for n in range(4) if n not in taken4}
    assert v6 in {small6.nth(n) for n in range(4) if n not in taken6}
