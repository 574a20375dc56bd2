"""Leases against each other and against the nodes' records."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.contracts.store import KeyValue, LeaseId, Revision
from tulle.doctor.leases import SHOWN, decode, judge, overlapping, release
from tulle.lease.model import Lease
from tulle.net.prefix import Prefix
from tulle.store.items import Item

PREFIX = "/coreos.com/network"
MakeContext = Callable[..., DoctorContext]


def record(key: str, value: Any, created: int = 1, lease: int = 1) -> tuple[str, KeyValue]:
    full = f"{PREFIX}/{key}"
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return full, KeyValue(full, text, Revision(created), Revision(created), 1, LeaseId(lease))


def lease(key: str, created: int = 1, store_lease: int = 1) -> tuple[str, KeyValue]:
    return record(f"subnets/{key}", {"PublicIP": "192.0.2.1", "PublicIPv6": None}, created, store_lease)


def member(name: str, *keys: str, created: int = 1, store_lease: int = 1) -> tuple[str, KeyValue]:
    return record(
        f"members/{name}", {"ID": f"id-{name}", "BootID": "b", "Subnets": keys}, created, store_lease
    )


def alive(name: str, node_id: str) -> tuple[str, KeyValue]:
    return record(f"alive/{name}", {"ID": node_id, "BootID": "b"})


def findings(context: DoctorContext, *records: tuple[str, KeyValue]) -> list[Finding]:
    return judge(context, decode(dict(records), PREFIX, "n1"), "id-n1", "restart it")


def healthy() -> list[tuple[str, KeyValue]]:
    return [
        lease("10.42.1.0-24"),
        member("n1", "10.42.1.0-24"),
        alive("n1", "id-n1"),
        lease("10.42.2.0-24", 2, 2),
        member("n2", "10.42.2.0-24", created=2, store_lease=2),
    ]


def test_a_healthy_cluster_is_ok(context: DoctorContext) -> None:
    assert [one.severity for one in findings(context, *healthy())] == ["ok"]


def test_a_flannel_node_without_a_record_is_ok(context: DoctorContext) -> None:
    assert [one.severity for one in findings(context, *healthy(), lease("10.42.3.0-24", 3, 3))] == ["ok"]


def test_two_leases_that_overlap_name_both_and_the_newer_is_to_go(context: DoctorContext) -> None:
    (found,) = findings(context, *healthy(), lease("10.42.2.128-25", 9, 9))
    assert (found.severity, found.subject) == ("error", "10.42.2.128-25")
    assert "10.42.2.0-24" in found.what
    assert "n2" in found.what
    assert found.mend.startswith("tulle leases release 10.42.2.128-25  #")


def test_our_own_lease_must_be_in_the_store_and_ours(context: DoctorContext) -> None:
    gone = [one for one in healthy() if "10.42.1.0" not in one[0] and "members/n1" not in one[0]]
    (found,) = findings(context, *gone)
    assert (found.severity, found.mend) == ("error", "restart it")
    assert "no such lease" in found.what
    taken = [*gone, lease("10.42.1.0-24", 5, 5), member("n9", "10.42.1.0-24", created=5, store_lease=5)]
    (found,) = findings(context, *taken)
    assert "n9's" in found.what


def test_another_machine_under_our_name_is_an_error(context: DoctorContext) -> None:
    others = [one for one in healthy() if "alive" not in one[0]]
    (found,) = findings(context, *others, alive("n1", "somebody"))
    assert (found.severity, found.subject) == ("error", f"{PREFIX}/alive/n1")


def test_a_record_without_its_lease_and_one_whose_lease_was_taken_are_warnings(
    context: DoctorContext,
) -> None:
    found = findings(
        context,
        *healthy(),
        member("n3", "10.42.3.0-24", created=3, store_lease=3),
        member("n4", "10.42.4.0-24", created=4, store_lease=4),
        lease("10.42.4.0-24", 7, 7),
    )
    assert [(one.severity, one.subject) for one in found] == [
        ("warning", "members/n3"),
        ("warning", "members/n4"),
    ]
    assert "is not there" in found[0].what
    assert "taken by another" in found[1].what


def test_two_records_that_own_one_lease_are_an_error(context: DoctorContext) -> None:
    (found,) = findings(context, *healthy(), member("n5", "10.42.2.0-24", created=2, store_lease=2))
    assert (found.severity, found.subject) == ("error", "10.42.2.0-24")
    assert "n2, n5" in found.what


def test_a_lease_outside_the_networks_is_a_warning(context: DoctorContext) -> None:
    (found,) = findings(context, *healthy(), lease("10.99.0.0-24", 3, 3))
    assert (found.severity, found.subject) == ("warning", "10.99.0.0-24")


def test_what_cannot_be_read_is_a_warning_with_the_reason(context: DoctorContext) -> None:
    found = findings(
        context,
        *healthy(),
        record("subnets/junk", {}),
        record("members/n7", b"\xff"),
        record("subnets/10.42.9.0-24", []),
    )
    assert [one.severity for one in found] == ["warning"] * 3
    assert all("cannot be read" in one.what for one in found)


def test_thousands_of_one_kind_are_shown_as_a_few(context: DoctorContext) -> None:
    many = [lease(f"10.99.{number}.0-24", 3, 3) for number in range(100)]
    found = findings(context, *healthy(), *many)
    assert len(found) == SHOWN + 1
    assert found[-1].what == f"{100 - SHOWN} more of the same kind"


def test_a_key_of_two_families_is_quoted_for_the_shell() -> None:
    assert release("10.42.1.0-24&fd42::-64") == "tulle leases release '10.42.1.0-24&fd42::-64'"


prefixes = st.builds(
    lambda number, length: ip_network((number << 24, length), strict=False),
    st.integers(0, 15),
    st.integers(4, 16),
)


@given(st.lists(prefixes, max_size=8))
def test_an_overlap_is_found_if_and_only_if_there_is_one(subnets: list[Prefix]) -> None:
    items = [
        Item(KeyValue(str(number), b"", Revision(number), Revision(number), 1), Lease(str(number), (one,)))
        for number, one in enumerate(subnets)
    ]
    expected = any(one.overlaps(two) for index, one in enumerate(subnets) for two in subnets[:index])
    found = list(overlapping(items))
    assert bool(found) == expected
    for older, newer, _ in found:
        assert older.kv.created < newer.kv.created
        assert older.value is not None
        assert newer.value is not None
        assert older.value.prefixes[0].overlaps(newer.value.prefixes[0])


@pytest.mark.parametrize("different", [{"status": None}, {"subnets": ()}])
def test_without_a_tulled_that_says_what_it_holds_our_own_lease_is_not_judged(
    make_context: MakeContext, different: dict[str, Any]
) -> None:
    assert [one.severity for one in findings(make_context(**different))] == ["ok"]
